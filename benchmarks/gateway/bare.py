"""The floor under a submission: FastAPI, SQLAlchemy, one INSERT, one commit, and nothing else."""

from __future__ import annotations

import os
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from sqlalchemy import text

from sskai.contract import new_id
from sskai.database import Database

database = Database(os.environ["SSKAI_DATABASE_URL"], "bare")
app = FastAPI()
TABLE = "CREATE TABLE IF NOT EXISTS public.bare_jobs (job_id text PRIMARY KEY, body text NOT NULL)"


@app.get("/ready")
async def ready() -> dict[str, str]:
    async with database.transaction() as session:
        await session.execute(text(TABLE))
    return {}


@app.post("/v1/jobs", status_code=202)
async def submit(request: Request) -> dict[str, Any]:
    job_id, body = new_id("job"), (await request.body()).decode()
    async with database.transaction() as session:
        await session.execute(text("INSERT INTO public.bare_jobs VALUES (:id, :body)"), {"id": job_id, "body": body})
    return {"id": job_id}


if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ["SSKAI_PORT"]), log_config=None, access_log=False, loop="uvloop")
