"""Servers on the loopback: one for files, and one that speaks the wire protocol of JSOC; both with faults on demand."""

import functools
import io
import json
import re
import threading
from collections import defaultdict
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import numpy as np

import astropy.units as u
from astropy.io import fits
from astropy.time import Time
from sunpy.time import parse_time

from esis_ndcube.net import ArchiveError

HTML = b"<html><body><h1>Service temporarily unavailable</h1></body></html>"
EMAIL = "registered@example.org"

# Faults of every answer, and those that only some answers have.
FAULTS_OF_ANSWERS = "500", "html", "close", "cut", "late", "stall"
FAULTS_OF_EXPORTS = "status 3", "status 4", "status 6", "status 7", "status 25"
FAULTS_OF_FILES = "500", "404", "html", "close", "late", "stall", "short", "short, no length", "flip", "other"


def check_errors(files, match, count=1):
    """These files, each with its address and the reason, could not be had."""
    assert len(files.errors) == count
    for error in files.errors:
        assert isinstance(error.exception, ArchiveError)
        assert re.match(rf"\S+\.(fits|fit\.gz): .*{match}", str(error.exception)), error.exception
        assert error.url.startswith("http://")


class FileServer:
    """
    Serves files; what happens to the next requests is in ``faults``, lists of words by place.

    Places are ``"file"``, and of JSOC also ``"search"``, ``"address"``, ``"export"`` and ``"status"``.
    """

    def __init__(self):
        self.files = {}
        self.faults = defaultdict(list)
        self.requests = []
        self.random = np.random.default_rng(0)
        self._lock = threading.Lock()
        self._busy, self.most_at_a_time = set(), 0
        self._closing = threading.Event()

    def __enter__(self):
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                server._answer(self)

            def do_HEAD(self):
                server._answer(self)

            def do_POST(self):
                server._answer(self)

            def log_message(self, *args):
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._closing.set()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def count(self, place):
        """Number of requests, without those that only ask for headers."""
        return sum(kind == place for kind, method, _ in self.requests if method != "HEAD")

    def downloads(self):
        """How often each file was asked for."""
        counts = defaultdict(int)
        for kind, method, path in self.requests:
            if (kind, method) == ("file", "GET"):
                counts[path] += 1
        return dict(counts)

    def _answer(self, handler):
        with self._lock:
            self._busy.add(handler)
            self.most_at_a_time = max(self.most_at_a_time, len(self._busy))
        try:
            content = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
            place, body = self._look_up(handler.path, content)
            with self._lock:
                self.requests.append((place, handler.command, urlsplit(handler.path).path))
                # Headers are not spoilt, so that a fault is one of a download.
                waiting = self.faults[place] if handler.command != "HEAD" else []
                fault = waiting.pop(0) if waiting else None
            if callable(body):
                body = body(fault)
            self._send(handler, body, fault)
        except (BrokenPipeError, ConnectionResetError):
            pass
        finally:
            self._leave(handler)

    def _leave(self, handler):
        with self._lock:
            self._busy.discard(handler)

    def _look_up(self, path, content=b""):
        return "file", self.files.get(urlsplit(path).path.lstrip("/"))

    def _send(self, handler, body, fault):
        status = {"500": 500, "404": 404}.get(fault, 200 if body is not None else 404)
        if isinstance(body, int):
            status, body = body, HTML
        if status != 200 or fault == "html":
            body = HTML
        if fault == "close":
            handler.close_connection = True
            return
        if fault == "other":
            body = next((content for content in self.files.values() if content != body), body)
        if fault == "flip":
            body = bytearray(body)
            body[self.random.integers(len(body))] ^= 1 << self.random.integers(8)
        length = len(body)
        ranged = re.match(r"bytes=(\d+)-(\d*)$", handler.headers.get("Range", ""))
        if ranged and status == 200:
            body = body[int(ranged[1]) : int(ranged[2]) + 1 if ranged[2] else None]
            status = 206
        handler.send_response(status)
        if fault != "short, no length":
            handler.send_header("Content-Length", str(len(body)))
        if status == 206:
            handler.send_header("Content-Range", f"bytes {ranged[1]}-{length - 1}/{length}")
        # Before the client knows that it has all, and asks for more: some look at the headers only.
        if fault not in ("late", "stall"):
            self._leave(handler)
        handler.end_headers()
        if handler.command == "HEAD":
            return
        if fault in ("cut", "short", "short, no length"):
            body = body[: int(self.random.integers(len(body)))]
        if fault in ("late", "stall"):
            handler.wfile.write(body[: len(body) // 2])
            # A server that stalls says no more than half, for as long as anybody waits.
            self._closing.wait(0.1 if fault == "late" else 60)
            body = body[len(body) // 2 :]
            self._leave(handler)
        handler.wfile.write(body)


@dataclass
class Record:
    """One record of a series."""

    t_rec: str
    t_obs: str
    quality: str
    content: bytes
    wavelength: int | None = 304


class JsocServer(FileServer):
    """
    A JSOC with one series.

    ``polls`` is how often an export is still pending, ``shuffled`` whether answers are in no order.
    """

    def __init__(self, records, *, polls=0, shuffled=False):
        super().__init__()
        self.records = list(records)
        self.polls, self.shuffled = polls, shuffled
        # Series of which all keywords are asked, as lists of dictionaries.
        self.tables = {}
        self.exports = {}

    def config(self):
        """How drms reaches this server."""
        from drms.config import ServerConfig

        return ServerConfig(
            name="JSOC",
            cgi_baseurl=self.url + "cgi-bin/ajax/",
            cgi_show_series="show_series",
            cgi_jsoc_info="jsoc_info",
            cgi_jsoc_fetch="jsoc_fetch",
            cgi_check_address="checkAddress.sh",
            http_download_baseurl=self.url,
        )

    def _look_up(self, path, content=b""):
        parts = urlsplit(path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        name = parts.path.rpartition("/")[2]
        if name == "checkAddress.sh":
            return "address", lambda fault: self._address(query)
        series = query.get("ds", "").partition("[")[0]
        if name == "jsoc_info" and series in self.tables:
            answer = self._list_table if query["op"] == "rs_list" else self._describe_table
            return "table", lambda fault: answer(series, query["ds"])
        if name == "jsoc_info" and query["op"] == "rs_list":
            return "search", lambda fault: self._list(query)
        if name == "jsoc_info":
            return "struct", lambda fault: _json({"status": 1, "error": "not needed"})
        if name == "jsoc_fetch" and query["op"] == "exp_request":
            return "export", lambda fault: self._export(query, fault)
        if name == "jsoc_fetch":
            return "status", lambda fault: self._status(query["requestid"], fault)
        return super()._look_up(path, content)

    def _address(self, query):
        # The address comes quoted twice.
        known = query["address"].replace("%40", "@") == EMAIL
        return _json({"status": 2, "msg": "known"} if known else {"status": 4, "msg": "not registered"})

    def _chosen(self, record_set):
        match = re.match(r"([\w.]+)\[([^\]]*)\](?:\[(\d+)\])?(?:\{(\w+)\})?$", record_set)
        times, wavelength = match[2], match[3] and int(match[3])
        records = [record for record in self.records if record.wavelength == wavelength]
        if match[4] is None:
            start, end = (parse_time(text) for text in times.split("-"))
            records = [record for record in records if start <= parse_time(record.t_rec) <= end]
        else:
            wanted = times.split(",")
            assert len(set(wanted)) == len(wanted)
            records = [record for record in records if record.t_rec in wanted]
        if self.shuffled:
            self.random.shuffle(records)
        return records

    def _list(self, query):
        records = self._chosen(query["ds"])
        columns = {"T_REC": "t_rec", "T_OBS": "t_obs", "QUALITY": "quality"}
        keywords = [
            {"name": key, "values": [getattr(record, columns[key]) for record in records]}
            for key in query["key"].split(",")
        ]
        answer = {"status": 0, "count": len(records), "runtime": 0.01}
        return _json({**answer, "keywords": keywords} if records else answer)

    def _list_table(self, series, record_set):
        start, end = (parse_time(text.rstrip("Z")) for text in re.search(r"\[(\S+Z)-(\S+Z)\]", record_set).groups())
        rows = [row for row in self.tables[series] if start <= parse_time(row["T_START"]) <= end]
        keywords = [{"name": key, "values": [row[key] for row in rows]} for key in (rows[0] if rows else ())]
        answer = {"status": 0, "count": len(rows), "runtime": 0.01}
        return _json({**answer, "keywords": keywords} if rows else answer)

    def _describe_table(self, series, record_set):
        kinds = {key: "string" if key.startswith("T_") else "double" for key in self.tables[series][0]}
        keywords = [{"name": key, "type": kind, "units": "", "note": ""} for key, kind in kinds.items()]
        return _json({"status": 0, "primekeys": ["T_START"], "keywords": keywords, "links": [], "segments": []})

    def _export(self, query, fault):
        assert query["notify"] == EMAIL
        assert (query["method"], query["protocol"]) == ("url", "fits")
        if fault and fault.startswith("status"):
            number = int(fault.split()[1])
            if number != 6:
                return _json({"status": number, "error": f"refused with {number}"})
        records = self._chosen(query["ds"])
        request = f"JSOC_20190930_{334 + len(self.exports)}"
        data = []
        for record in records:
            name = f"aia.{record.t_rec.replace(':', '')}.{len(data)}.fits"
            self.files[f"SUM1/{request}/{name}"] = record.content
            data.append({"record": f"a.series[{record.t_rec}][{record.wavelength}]{{image}}", "filename": name})
        if self.shuffled:
            self.random.shuffle(data)
        self.exports[request] = [self.polls, data]
        size = sum(len(record.content) for record in records) >> 20
        if self.polls == 0 and fault != "status 6":
            return self._status(request, None)
        common = {"requestid": request, "method": "url", "protocol": "FITS,compress Rice"}
        return _json({"status": 6 if fault else 2, "wait": 10, "rcount": len(data), "size": size, **common})

    def _status(self, request, fault):
        if fault and fault.startswith("status"):
            return _json({"status": int(fault.split()[1]), "error": "refused", "requestid": request})
        if request not in self.exports:
            return _json({"status": 6, "error": "no such request", "requestid": request})
        job = self.exports[request]
        common = {"requestid": request, "method": "url", "protocol": "FITS,compress Rice"}
        if job[0] > 0:
            job[0] -= 1
            return _json({"status": 1, "wait": 10, **common})
        return _json(
            {"status": 0, "dir": f"/SUM1/{request}", "count": len(job[1]), "data": job[1], "size": 1, **common}
        )


def _json(value):
    return json.dumps(value).encode("latin1")


def aia_content(t_rec, t_obs, *, wavelength=304, checksum=True, value=None, shape=(24, 32)):
    """A small file that looks like one of AIA."""
    seed = int(parse_time(t_obs).unix * 100) % 2**31
    data = np.random.default_rng(seed).integers(0, 200, shape).astype(np.int16)
    if value is not None:
        data[:] = value
    header = fits.Header()
    header.update({"T_REC": t_rec, "T_OBS": t_obs, "DATE-OBS": parse_time(t_obs).utc.isot, "TELESCOP": "SDO/AIA"})
    header.update({"WAVELNTH": wavelength} if wavelength else {})
    header.update({"INSTRUME": "AIA_4", "WAVEUNIT": "angstrom", "QUALITY": 0, "EXPTIME": 2.9, "SAT_ROT": 0.0})
    header.update({"LVL_NUM": 1.0, "BUNIT": "DN"})
    for axis, count in ((1, shape[1]), (2, shape[0])):
        header.update({f"CTYPE{axis}": ("HPLN-TAN", "HPLT-TAN")[axis - 1], f"CUNIT{axis}": "arcsec"})
        header.update({f"CRVAL{axis}": 0.0, f"CDELT{axis}": 2400 / count, f"CRPIX{axis}": (count + 1) / 2})
    header.update({"HGLN_OBS": 0.0, "HGLT_OBS": 6.7, "DSUN_OBS": 1.4975e11, "RSUN_REF": 6.96e8, "RSUN_OBS": 958.0})
    units = fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(data, header, compression_type="RICE_1")])
    stream = io.BytesIO()
    units.writeto(stream, checksum=checksum)
    return stream.getvalue()


# Many tests have the same files.
_kept_content = functools.cache(aia_content)


def aia_records(start, count, *, cadence=12 * u.s, gap=(), bad=(), **kwargs):
    """Records every 12 s, some of them left out, and some of bad quality."""
    jitter = np.random.default_rng(1).uniform(0, 0.9, count)
    records = []
    for index in range(count):
        if index in gap:
            continue
        begin = Time(start) + index * cadence
        t_rec = begin.isot[:19] + "Z"
        t_obs = (begin + jitter[index] * u.s).isot[:22] + "Z"
        quality = "0x40000000" if index in bad else "0x00000000"
        records.append(Record(t_rec, t_obs, quality, _kept_content(t_rec, t_obs, **kwargs)))
    return records
