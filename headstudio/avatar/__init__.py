"""What is optimised: Gaussians (or other matter) that a head carries; see `representation.Representation`."""
