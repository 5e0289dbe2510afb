"""Hydra's grid of overrides, for launchers that check every run before they submit any and tell how each one ended."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn
from omegaconf import OmegaConf

from headstudio.sweep.record import Sweep


class GridSweeper(BasicSweeper):
    """`BasicSweeper`, except that a failed run does not end the sweep and configs are composed once, not twice."""

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        """Launch the batches; the results stand for themselves, failed ones too."""
        assert self.config is not None
        assert self.launcher is not None
        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        batches = self.split_arguments(parser.parse_overrides(arguments), self.max_batch_size)
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
