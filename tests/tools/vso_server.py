"""A server on the loopback that speaks the SOAP of the Virtual Solar Observatory (VSO), for sunpy's own client."""

from jsoc_server import JsocServer
from lxml import etree

from sunpy.time import parse_time

VSO = "http://virtualsolar.org/VSO/VSOi"
XSD = "http://www.w3.org/2001/XMLSchema"
SOAP = "http://schemas.xmlsoap.org/soap/envelope/"

# The types of the VSO's service description, version "rpc literal", as zeep prints them: text where nothing else is
# said, a list of them with [].
TYPES = {
    "DataContainer": "datarequestitem:DataRequestItem[]",
    "DataItem": "provider url fileiditem:FileidItem",
    "DataRequestItem": "provider fileiditem:FileidItem",
    "Extent": "x y width length type",
    "Extra": "thumbnail:Thumbnail flags",
    "Field": "fielditem:string[]",
    "FileidItem": "fileid:string[]",
    "GetDataItem": "dataitem:DataItem[]",
    "GetDataRequest": "method:MethodItem info:Info datacontainer:DataContainer",
    "GetDataResponseItem": "version info provider getdataitem:GetDataItem status debug details method:MethodItem",
    "Info": "email host user directory password address required site",
    "MethodItem": "methodtype:string[]",
    "ProviderQueryResponse": "version:float provider no_of_records_found:int no_of_records_returned:int "
    "record:QueryResponseBlockArray error debug status",
    "QueryRequest": "version:float block:QueryRequestBlock",
    "QueryRequestBlock": "time:Time provider source instrument physobs wave:Wave extent:Extent field:Field pixels "
    "level resolution detector filter sample quicklook pscale",
    "QueryResponse": "provideritem:ProviderQueryResponse[]",
    "QueryResponseBlock": "provider source instrument physobs time:Time wave:Wave extent:Extent size:float extra:Extra "
    "info datatype fileurl fileid",
    "QueryResponseBlockArray": "recorditem:QueryResponseBlock[]",
    "Thumbnail": "hires lowres",
    "Time": "start end near",
    "VSOGetDataRequest": "version request:GetDataRequest",
    "VSOGetDataResponse": "getdataresponseitem:GetDataResponseItem[]",
    "Wave": "wavemin wavemax waveunit wavetype",
}
OPERATIONS = {"Query": ("QueryRequest", "QueryResponse"), "GetData": ("VSOGetDataRequest", "VSOGetDataResponse")}
PORT = "loopbackVSOi"


class VsoServer(JsocServer):
    """
    A VSO that knows the records of a JSOC, which it is as well.

    ``site`` is the mirror that was asked for last. Places of faults are also ``"wsdl"``, ``"query"`` and ``"data"``.
    """

    site = None

    def mirrors(self):
        """How sunpy reaches this server."""
        return [{"url": self.url + "VSOi_rpc_literal.wsdl", "port": PORT}]

    def _look_up(self, path, content=b""):
        if path.endswith(".wsdl"):
            return "wsdl", wsdl(self.url + "vsoi")
        if not path.endswith("/vsoi"):
            return super()._look_up(path, content)
        if not content:
            # To plain requests the VSO answers that they lack a length, from which sunpy knows that it is there.
            return "alive", 411
        (operation,) = etree.fromstring(content).find(f"{{{SOAP}}}Body")
        body = operation.find("body")
        name = etree.QName(operation).localname
        answer = {"Query": self._query, "GetData": self._data}[name]
        return {"Query": "query", "GetData": "data"}[name], lambda fault: envelope(name, answer(body, fault))

    def _query(self, body, fault):
        block = {child.tag: child for child in body.find("block")}
        start, end = (parse_time(block["time"].findtext(key)) for key in ("start", "end"))
        assert (block["source"].text, block["instrument"].text) == ("SDO", "AIA")
        wavelength = float(block["wave"].findtext("wavemin"))
        records = [
            # In no fixed order, as the VSO has it.
            {
                "fileid": f"aia__lev1:{record.wavelength}:{index}",
                "time": {"end": compact(record.t_rec), "start": compact(record.t_rec)},
                "provider": "JSOC",
                "source": "SDO",
                "instrument": "AIA",
                "physobs": "intensity",
                "wave": {"wavemin": record.wavelength, "wavemax": record.wavelength, "waveunit": "Angstrom"},
                "size": 66200.0,
            }
            for index, record in enumerate(self.records)
            if record.wavelength == wavelength and start <= parse_time(record.t_rec) <= end
        ]
        if self.shuffled:
            self.random.shuffle(records)
        item = {"provider": "JSOC", "no_of_records_found": len(records), "no_of_records_returned": len(records)}
        return {"provideritem": [{**item, "record": {"recorditem": records}} if records else item]}

    def _data(self, body, fault):
        self.site = body.findtext(".//site")
        names = [item.text for item in body.iter("fileid")]
        items = []
        for name in names:
            path = "vso/" + name.replace(":", "_")
            self.files[path] = self.records[int(name.split(":")[-1])].content
            items.append({"provider": "JSOC", "url": self.url + path, "fileiditem": {"fileid": [name]}})
        item = {"provider": "JSOC", "method": {"methodtype": [body.findtext(".//methodtype")]}}
        item |= {"status": fault} if fault == "501" else {"getdataitem": {"dataitem": items}}
        return {"getdataresponseitem": [item]}


def compact(time):
    """A time as the VSO writes it."""
    return parse_time(time).utc.strftime("%Y%m%d%H%M%S")


def envelope(operation, answer):
    """A SOAP answer."""
    top = etree.Element(f"{{{SOAP}}}Envelope")
    body = etree.SubElement(etree.SubElement(top, f"{{{SOAP}}}Body"), f"{{{VSO}}}{operation}Response")
    _fill(etree.SubElement(body, "body"), answer)
    return etree.tostring(top, xml_declaration=True, encoding="utf-8")


def _fill(element, content):
    if not isinstance(content, dict):
        element.text = str(content)
        return
    for key, value in content.items():
        for item in value if isinstance(value, list) else [value]:
            _fill(etree.SubElement(element, key), item)


def wsdl(address):
    """The service description."""
    schema = "".join(_schema(name, members.split()) for name, members in TYPES.items())
    messages = "".join(
        f'<message name="{name}"><part name="body" type="v:{name}"/></message>'
        for pair in OPERATIONS.values()
        for name in pair
    )
    ports = "".join(
        f'<operation name="{name}"><input message="v:{given}"/><output message="v:{taken}"/></operation>'
        for name, (given, taken) in OPERATIONS.items()
    )
    use = f'<s:body use="literal" namespace="{VSO}"/>'
    bindings = "".join(
        f'<operation name="{name}"><s:operation soapAction="{VSO}#{name}"/>'
        f"<input>{use}</input><output>{use}</output></operation>"
        for name in OPERATIONS
    )
    return (
        f'<?xml version="1.0"?><definitions xmlns="http://schemas.xmlsoap.org/wsdl/" xmlns:v="{VSO}" xmlns:x="{XSD}" '
        f'xmlns:s="http://schemas.xmlsoap.org/wsdl/soap/" targetNamespace="{VSO}">'
        f'<types><schema xmlns="{XSD}" targetNamespace="{VSO}">{schema}</schema></types>{messages}'
        f'<portType name="VSOiPort">{ports}</portType><binding name="VSOiBinding" type="v:VSOiPort">'
        f'<s:binding style="rpc" transport="http://schemas.xmlsoap.org/soap/http"/>{bindings}</binding>'
        f'<service name="VSOiService"><port name="{PORT}" binding="v:VSOiBinding"><s:address location="{address}"/>'
        "</port></service></definitions>"
    ).encode()


def _schema(name, members):
    elements, order = "", "all"
    for member in members:
        key, _, kind = member.partition(":")
        plain = kind.removesuffix("[]") or "string"
        many = ' maxOccurs="unbounded"' if kind.endswith("[]") else ""
        order = "sequence" if many else order
        prefix = "v" if plain in TYPES else "x"
        elements += f'<element name="{key}" type="{prefix}:{plain}" minOccurs="0"{many}/>'
    return f'<complexType name="{name}"><{order}>{elements}</{order}></complexType>'
