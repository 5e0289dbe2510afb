"""Score distillation from a diffusion prior: components, prompts, gradient rules and the loss."""
