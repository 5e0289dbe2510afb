"""Hydra's grid of overrides and ablations, for launchers that check every run before they submit any."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn
from omegaconf import OmegaConf

from headstudio import ablation
from headstudio.sweep.record import Sweep


class GridSweeper(BasicSweeper):
    """`BasicSweeper` with +ablation=NAME; a failed run does not end a sweep; configs are composed once, not twice."""

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        """Launch the batches; the results stand for themselves, failed ones too."""
        assert self.config is not None
        assert self.launcher is not None
        assert self.hydra_context is not None
        batches = list(self.split_overrides_to_chunks(self._runs(arguments), self.max_batch_size))
        folder = Path(str(self.config.hydra.sweep.dir))
        is_new = not folder.exists()
        Sweep(folder.absolute()).prepare()
        OmegaConf.save(self.config, folder / "multirun.yaml")
        results: list[Sequence[JobReturn]] = []
        try:
            for batch in batches:
                results.append(self.launcher.launch(batch, initial_job_idx=sum(map(len, results))))
        except Exception:
            if is_new and not any(folder.glob(".sweep/commands/*.json")):  # a mistake, found before anything began
                shutil.rmtree(folder)
            raise
        return results

    def _runs(self, arguments: list[str]) -> list[list[str]]:
        """One list of overrides per run: the grid of what is swept, in each arm of the ablations that are named."""
        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        own = [override for override in parser.parse_overrides(arguments) if override.get_key_element() != ablation.KEY]
        (grid,) = self.split_arguments(own, None)
        names = ablation.named(arguments)
        return ablation.runs(names, grid) if names else grid
