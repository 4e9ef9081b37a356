"""Orders by HTTP with Flask: one container for each process. Run it with `gunicorn --threads 8 flask_app:app`."""

from __future__ import annotations

import atexit

from flask import Flask, Response, jsonify, request

from katax_cli import Katax, OutcomeUnknown, RateLimitExceeded, Unavailable, check_database_health

# Connects nowhere yet. A process that gunicorn forks afterwards makes connections of its own.
katax = Katax()
main = katax.database("main", type="postgresql")
limiter = katax.limiter(max=100, window="1m", on_error="open")
app = Flask(__name__)
atexit.register(katax.shutdown)


@app.post("/orders")
def place() -> tuple[Response, int]:
    limiter.consume(request.remote_addr or "-")
    order = request.get_json()
    with main.transaction() as transaction:
        transaction.execute("insert into orders (id, item) values ($1, $2)", [order["id"], order["item"]])
    return jsonify(order), 201


@app.get("/orders/<int:id>")
def show(id: int) -> tuple[Response, int]:
    rows = main.query("select id, item from orders where id = $1", [id], timeout=2.0)
    return (jsonify(rows[0]), 200) if rows else (jsonify(detail="no such order"), 404)


@app.get("/live")
def live() -> str:
    return "live\n"


@app.get("/ready")
def ready() -> tuple[Response, int]:
    well = check_database_health(main).status != "unhealthy"
    return jsonify(ready=well), 200 if well else 503


@app.errorhandler(Unavailable)
def unavailable(_error: Unavailable) -> tuple[Response, int, dict[str, str]]:
    return jsonify(detail="a service behind this one is not available"), 503, {"Retry-After": "1"}


@app.errorhandler(RateLimitExceeded)
def limited(error: RateLimitExceeded) -> tuple[Response, int, dict[str, str]]:
    return jsonify(detail="too many requests"), 429, {"Retry-After": str(int(error.retry_after) + 1)}


@app.errorhandler(OutcomeUnknown)
def unknown(_error: OutcomeUnknown) -> tuple[Response, int]:
    return jsonify(detail="it may have been done or not; look before repeating it"), 500
