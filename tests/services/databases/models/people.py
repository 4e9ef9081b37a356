"""The organizations, users and sessions of the model tests, and a database that has them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, String, func

from katax_cli import Column, Mapped, Model, ModelQuery, Repository, SqlDatabase, relationship


class Organization(Model):
    __tablename__ = "organizations"

    id: Mapped[int] = Column(primary_key=True)
    name: Mapped[str] = Column(String(60))
    users: Mapped[list[User]] = relationship(back_populates="organization")


class User(Model):
    __tablename__ = "users"

    id: Mapped[int] = Column(primary_key=True)
    email: Mapped[str] = Column(String(100), unique=True)
    name: Mapped[str | None] = Column(String(100))
    active: Mapped[bool] = Column(default=True)
    meta: Mapped[dict[str, Any] | None] = Column("metadata", JSON)
    plan: Mapped[str] = Column(String(20), server_default="free")
    created_at: Mapped[datetime] = Column(server_default=func.now())
    org_id: Mapped[int | None] = Column(ForeignKey("organizations.id"))

    organization: Mapped[Organization | None] = relationship(back_populates="users")
    sessions: Mapped[list[LoginSession]] = relationship(back_populates="user", cascade="all, delete-orphan")


class LoginSession(Model):
    __tablename__ = "sessions"

    id: Mapped[int] = Column(primary_key=True)
    user_id: Mapped[int] = Column(ForeignKey("users.id"))
    device: Mapped[str] = Column(String(60))

    user: Mapped[User] = relationship(back_populates="sessions")


class UserRepository(Repository[User]):
    def find_by_email(self, email: str) -> User | None:
        return self.query().where("email", email).first()

    def find_active(self) -> list[User]:
        return self.query().where(User.active).order_by("id").all()

    def of_organization(self, organization: Organization) -> ModelQuery[User]:
        return self.query().where("org_id", organization.id)


_KEY = {
    "postgresql": "serial primary key",
    "mysql": "int auto_increment primary key",
    "sqlite": "integer primary key",
}
_JSON = {"postgresql": "jsonb", "mysql": "json", "sqlite": "text"}


def create_tables(db: SqlDatabase) -> None:
    key, json = _KEY[db.dialect], _JSON[db.dialect]
    db.execute(f"create table organizations (id {key}, name varchar(60) not null)")
    db.execute(
        f"""create table users (id {key}, email varchar(100) not null unique, name varchar(100),
        active boolean not null, metadata {json}, plan varchar(20) not null default 'free',
        created_at timestamp not null default current_timestamp, org_id int references organizations (id))"""
    )
    db.execute(
        f"create table sessions (id {key}, user_id int not null, device varchar(60) not null, "
        "foreign key (user_id) references users (id))"
    )
