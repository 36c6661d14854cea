"""A service that routes each prompt to one of its own models, and keeps a promise of 85 % good answers.

python service.py 8080
curl -d '{"prompt": "What is 17 + 25?"}' localhost:8080/ask
curl -d '{"id": "…", "good": true}' localhost:8080/good
"""

import json
import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer

import messctl

MODELS: dict[str, Callable[[str], tuple[str, float]]] = {  # each returns its answer and what that cost, in USD
    "small": lambda prompt: (str(len(prompt)), 0.001),  # put your own models here
    "large": lambda prompt: (prompt.upper(), 0.03),
}


class Service(BaseHTTPRequestHandler):
    router: messctl.Router

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        try:
            reply = self.ask(body["prompt"]) if self.path == "/ask" else self.judge(body["id"], body["good"])
        except messctl.MessctlError as error:
            return self.send_error(400, str(error))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(reply).encode())

    def ask(self, prompt: str) -> dict[str, object]:
        decision = self.router.decide(prompt)
        answer, cost = MODELS[decision.served](prompt)
        self.router.learn(decision, cost=cost, answer=answer)
        return {"id": decision.request.request_id, "model": decision.served, "answer": answer}

    def judge(self, request_id: str, good: bool) -> dict[str, object]:
        standing = self.router.learn(request_id, satisfied=good)
        return {"attained": standing.attained, "over": standing.judged}


def serve(port: int, state: str = "service.sqlite") -> None:
    with messctl.open_router(list(MODELS), state, alpha=0.85, unit="USD") as Service.router:
        HTTPServer(("localhost", port), Service).serve_forever()


if __name__ == "__main__":
    serve(int(sys.argv[1]))
