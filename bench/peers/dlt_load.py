"""Loads the table `items` from one PostgreSQL database into another with dlt, by its fastest documented way between the two: rows
as Arrow tables, files of CSV, COPY. Called with the addresses of both."""

import sys

import dlt
from dlt.sources.sql_database import sql_table

source, target = sys.argv[1:3]
pipeline = dlt.pipeline(
    "bench", destination=dlt.destinations.postgres(target), dataset_name="public", dev_mode=False
)
table = sql_table(
    source.replace("postgresql://", "postgresql+psycopg2://", 1),
    table="items",
    backend="pyarrow",
    chunk_size=50_000,
    reflection_level="full_with_precision",
)
pipeline.run(table, write_disposition="append", loader_file_format="csv").raise_on_failed_jobs()
