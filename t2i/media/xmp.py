"""XMP: the properties of a packet, by namespace, in any of the forms that RDF/XML allows."""

from __future__ import annotations

from xml.etree import ElementTree

IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
OURS = "urn:t2i:record:1"
MEDIA_MANAGEMENT = "http://ns.adobe.com/xap/1.0/mm/"
REFERENCE = "http://ns.adobe.com/xap/1.0/sType/ResourceRef#"
RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
MAX_XMP = 4 << 20  # bytes
INNER = tuple(RDF + name for name in ("Description", "value", "Alt", "Bag", "Seq", "li"))
"""Where the value of a property may stand, a step below it: in a structure, a list, or one of its entries."""


class _NoDoctype(ElementTree.TreeBuilder):
    """Builds no document with a DTD: XMP has none, and only a DTD defines entities, which could grow without end."""

    def doctype(self, name: str, public: str | None, system: str | None) -> None:
        raise ValueError("it has a document type")


class Packet:
    """A parsed packet. readable: False for one that is no XML, or too large; it has no properties."""

    def __init__(self, data: bytes) -> None:
        self._found: dict[str, str] = {}  # {namespace}name -> value
        self.readable = True
        text = data.strip(b"\0 \t\r\n")
        if not text:
            return
        try:
            if len(text) > MAX_XMP:
                raise ValueError("it is too long")
            parser = ElementTree.XMLParser(target=_NoDoctype())
            parser.feed(text)
            root = parser.close()
        except (ElementTree.ParseError, ValueError, LookupError):  # LookupError: an encoding that nobody knows
            self.readable = False
            return
        rdf = next(root.iter(f"{RDF}RDF"), None)  # the first: others, deeper, are of the pictures that this was made of
        for about in () if rdf is None else rdf:
            for name, value in about.attrib.items():
                self._found.setdefault(name, value)
            for element in about:
                inner = _value(element)
                if inner is not None:
                    self._found.setdefault(element.tag, inner)

    def get(self, namespace: str, name: str) -> str | None:
        """The first value of a property; None if it is not there."""
        return self._found.get(f"{{{namespace}}}{name}")


def _value(element: ElementTree.Element) -> str | None:
    """The value of a property: text, rdf:resource, or the first value in its list or structure."""
    for _ in range(8):  # no form is deeper
        resource = element.get(f"{RDF}resource") or element.get(f"{RDF}value")
        if resource:
            return resource
        inner = next((child for child in element if child.tag in INNER), None)
        if inner is None:
            return (element.text or "").strip() or None
        element = inner
    return None
