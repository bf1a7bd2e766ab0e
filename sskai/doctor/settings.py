"""What the doctor is told: the variables of the services, and where they answer."""

from __future__ import annotations

from typing import ClassVar

from sskai.cluster import Program, settings
from sskai.database import SERVICES
from sskai.local.paths import home_folder
from sskai.local.state import read_state
from sskai.settings import beneath_environment


class Settings(settings.Settings):
    """The environment of a service is enough; `SSKAI_OPTIMIZER_URL` and `SSKAI_TRAINER_URL` are the doctor's own."""

    program: ClassVar[Program] = Program("trainer", "services.trainer.pod", "sskai-scheduler")

    trainer_image: str = "sskai/trainer:0.1.0"
    optimizer_url: str = ""
    trainer_url: str = ""

    @property
    def image(self) -> str:
        return self.trainer_image

    def urls(self) -> dict[str, str]:
        """Where each service answers; empty of one that nobody named."""
        return {
            "gateway": self.gateway_url,
            "optimizer": self.optimizer_url,
            "scheduler": self.scheduler_url,
            "trainer": self.trainer_url,
            "inference": self.inference_url,
            "monitor": self.monitor_url or self.otlp_url or "",
        }


def read() -> tuple[Settings, str]:
    """The settings and where they are from, in words: the environment; while the embedded stack runs here, what that
    leaves out is the stack's."""
    state = read_state(home_folder())
    if state is None or not state.supervised():
        return Settings(), "the environment's SSKAI_* variables"
    ports = {name: part.port for name, part in state.parts.items() if part.port is not None}
    told = state.environment | {
        f"SSKAI_{name.upper()}_URL": f"http://127.0.0.1:{ports[name]}" for name in SERVICES if name in ports
    }
    return beneath_environment(Settings, told), f"the embedded stack of {home_folder()}"
