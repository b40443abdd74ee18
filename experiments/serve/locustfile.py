"""For those who have Locust: `locust -f experiments/serve/locustfile.py --host http://localhost:8000`.

Users of a running `python -m experiments.serve`. F5_WORKLOAD names the texts (en_core by default). Locust counts from
the time a request is sent, so under an open load its percentiles are too good; `experiments.load` counts from the plan.
"""

from __future__ import annotations

import os
import random
from typing import Any

from locust import HttpUser, constant, task

from experiments.workload.requests import select_lines

LINES = select_lines({"texts": os.environ.get("F5_WORKLOAD", "en_core"), "select": None, "limit": None})


class Speaker(HttpUser):
    """Asks for one random sentence after the other."""

    wait_time = constant(0)

    @task
    def speak(self) -> None:
        line = random.choice(LINES)
        body: dict[str, Any] = {"text": line.text, "utterance_id": line.utterance_id}
        with self.client.post("/synthesize", json=body, name=line.category, catch_response=True) as response:
            if response.status_code == 200 and not response.content.startswith(b"RIFF"):
                response.failure("not a WAV")
