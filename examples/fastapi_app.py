"""Orders by HTTP: PostgreSQL, sessions and rate limits on Redis. Run it with `uvicorn fastapi_app:app`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException
from pydantic import BaseModel

from katax_cli.aio import AsyncKatax
from katax_cli.integrations.starlette import (
    Lifespan,
    RateLimit,
    SessionsMiddleware,
    WebSession,
    current_katax,
    error_handlers,
    health_routes,
    load_session,
)

Services = Annotated[AsyncKatax, Depends(current_katax)]
Session = Annotated[WebSession, Depends(load_session)]
LOGINS = RateLimit("login", max=5, window="1m", algorithm="sliding", on_error="open")


@asynccontextmanager
async def prepared(app: FastAPI) -> AsyncIterator[None]:
    katax: AsyncKatax = app.state.katax
    main = katax.database("main", type="postgresql")
    async with main.transaction() as transaction:
        # Workers begin side by side, and PostgreSQL lets only one of them create a table "if not exists".
        await transaction.execute("select pg_advisory_xact_lock(1)")
        await transaction.execute(
            "create table if not exists orders (id bigint primary key, item text not null)"
        )
    yield


app = FastAPI(
    lifespan=Lifespan(inner=prepared), exception_handlers=error_handlers(), routes=health_routes(["main"])
)
# Secure cookies travel by HTTPS only; this example is called by HTTP.
app.add_middleware(SessionsMiddleware, ttl="1d", secure=False)


class Order(BaseModel):
    id: int
    item: str


class Login(BaseModel):
    name: str


@app.post("/orders", status_code=201)
async def place(order: Order, katax: Services) -> Order:
    main = katax.database("main", type="postgresql")
    async with main.transaction() as transaction:
        await transaction.execute("insert into orders (id, item) values ($1, $2)", [order.id, order.item])
    return order


@app.get("/orders/{id}")
async def show(id: int, katax: Services) -> Order:
    main = katax.database("main", type="postgresql")
    rows = await main.query("select id, item from orders where id = $1", [id], timeout=2.0)
    if not rows:
        raise HTTPException(404, "no such order")
    return Order(**rows[0])


@app.post("/login", dependencies=[Depends(LOGINS)])
async def login(who: Login, session: Session) -> dict[str, str]:
    session.renew()
    session["user_id"] = who.name
    return {"hello": who.name}


@app.get("/me")
async def me(session: Session) -> dict[str, str]:
    if "user_id" not in session:
        raise HTTPException(401, "log in first")
    return {"name": session["user_id"]}


@app.post("/logout")
async def logout(session: Session) -> dict[str, bool]:
    session.clear()
    return {"bye": True}
