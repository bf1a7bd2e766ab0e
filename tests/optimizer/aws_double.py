"""A small AWS on loopback: EC2's query protocol and the Pricing API, answered as told, page by page."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

Answer = tuple[int, str]


class Double:
    """`pages[operation, region]` are answered one after the other, the last one for ever."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.pages: dict[tuple[str, str], list[Answer]] = {}
        self.heard: list[tuple[str, str, dict[str, Any]]] = []

    def asked(self, operation: str) -> list[dict[str, Any]]:
        return [question for name, _, question in self.heard if name == operation]

    def answer(self, operation: str, region: str, question: dict[str, Any]) -> Answer:
        self.heard.append((operation, region, question))
        pages = self.pages.get((operation, region))
        if not pages:
            return error("UnauthorizedOperation", 403)
        return pages.pop(0) if len(pages) > 1 else pages[0]


def error(code: str, status: int = 400) -> Answer:
    body = f"<Response><Errors><Error><Code>{code}</Code><Message>said the double</Message></Error></Errors></Response>"
    return status, body


def ec2(operation: str, items: list[Mapping[str, Any]], container: str, next_token: str = "") -> Answer:
    body = f"<{operation}Response><requestId>r</requestId><{container}>{_xml(items)}</{container}>"
    return 200, f"{body}<nextToken>{next_token}</nextToken></{operation}Response>"


def spot_page(items: list[Mapping[str, Any]], next_token: str = "") -> Answer:
    return ec2("DescribeSpotPriceHistory", items, "spotPriceHistorySet", next_token)


def spot(
    instance_type: str, zone: str, price: str, at: str = "2026-11-24T11:00:00.000Z", **more: str
) -> dict[str, Any]:
    """With a zone id unless `zone` is the name of one."""
    field = "availabilityZoneId" if "-az" in zone else "availabilityZone"
    return {"instanceType": instance_type, "spotPrice": price, "timestamp": at, field: zone}


def zones_page(names: Mapping[str, str]) -> Answer:
    return ec2(
        "DescribeAvailabilityZones",
        [{"zoneName": name, "zoneId": zone_id} for name, zone_id in names.items()],
        "availabilityZoneInfo",
    )


def machines_page(items: list[Mapping[str, Any]], next_token: str = "") -> Answer:
    return ec2("DescribeInstanceTypes", items, "instanceTypeSet", next_token)


def machine(instance_type: str, **fields: Any) -> dict[str, Any]:
    return {
        "instanceType": instance_type,
        "vCpuInfo": {"defaultVCpus": 4},
        "memoryInfo": {"sizeInMiB": 16384},
        "networkInfo": {"networkCards": [{"networkCardIndex": 0, "baselineBandwidthInGbps": 2.5}]},
        **fields,
    }


def scores_page(items: list[Mapping[str, Any]]) -> Answer:
    return ec2("GetSpotPlacementScores", items, "spotPlacementScoreSet")


def product(instance_type: str, usd: Any, region: str = "us-east-1", **attributes: str) -> str:
    """One entry of a price list."""
    known = {
        "instanceType": instance_type,
        "regionCode": region,
        "operatingSystem": "Linux",
        "tenancy": "Shared",
        "capacitystatus": "Used",
        "preInstalledSw": "NA",
    }
    rate = {"unit": "Hrs", "pricePerUnit": {"USD": usd}}
    terms = {"OnDemand": {"SKU.TERM": {"priceDimensions": {"SKU.TERM.RATE": rate}}}}
    return json.dumps({"product": {"attributes": known | attributes}, "terms": terms})


def price_list(items: list[Any], next_token: str = "") -> Answer:
    answer: dict[str, Any] = {"FormatVersion": "aws_v1", "PriceList": items}
    return 200, json.dumps(answer | ({"NextToken": next_token} if next_token else {}))


@contextmanager
def running() -> Iterator[Double]:
    """The double as a server, until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            target = self.headers.get("X-Amz-Target")
            # Every signature names its region: Credential=KEY/DATE/REGION/SERVICE/aws4_request.
            scope = re.search(r"Credential=[^/]+/\d+/([^/]+)/", self.headers["Authorization"])
            assert scope is not None
            if target:
                operation, question = target.rpartition(".")[2], json.loads(body)
            else:
                question = {name: values[0] for name, values in parse_qs(body).items()}
                operation = question["Action"]
            status, text = double.answer(operation, scope[1], question)
            self.send_response(status)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: Any) -> None:
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    double = Double(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield double
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _xml(value: Any) -> str:
    if isinstance(value, list):
        return "".join(f"<item>{_xml(each)}</item>" for each in value)
    if isinstance(value, Mapping):
        return "".join(f"<{name}>{_xml(each)}</{name}>" for name, each in value.items())
    return escape(str(value))
