//! The table: what a backend sends after a request, which clause (RFC number and section) speaks
//! about it, and what we make of it.

use super::super::Asked;
use crate::framing::Violation as V;

pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) clause: &'static str,
    pub(super) asked: Asked,
    pub(super) bytes: &'static [u8],
    pub(super) expect: Expect,
}

pub(super) enum Expect {
    /// An answer with this body, ended by its own framing.
    Whole(&'static [u8]),
    /// An answer with this body, ended by the end of the connection.
    UntilClose(&'static [u8]),
    /// Nothing wrong yet, and not at an end.
    Open,
    /// Refused in the head.
    Refuse(V),
    /// Refused in the body.
    RefuseBody(V),
    /// An answer with this body, and then bytes that belong to none.
    Surplus(&'static [u8]),
}
use Asked::{Head, Plain, Upgrade};
use Expect::{Open, Refuse, RefuseBody, Surplus, UntilClose, Whole};

const fn case(
    name: &'static str,
    clause: &'static str,
    asked: Asked,
    bytes: &'static [u8],
    expect: Expect,
) -> Case {
    Case { name, clause, asked, bytes, expect }
}

#[rustfmt::skip]
pub(super) const CASES: &[Case] = &[
    // Plain answers.
    case("content length", "9112 6.3", Plain, b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", Whole(b"abc")),
    case("length zero", "9112 6.3", Plain, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Whole(b"")),
    case("length with zeros in front", "9110 8.6", Plain, b"HTTP/1.1 200 OK\r\nContent-Length: 003\r\n\r\nabc", Whole(b"abc")),
    case("chunked", "9112 7.1", Plain, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", Whole(b"abc")),
    case("chunked in capitals", "9110 10.1.4", Plain, b"HTTP/1.1 200 OK\r\nTRANSFER-ENCODING: Chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\nX: y\r\n\r\n", Whole(b"abc")),
    case("until close", "9112 6.3", Plain, b"HTTP/1.1 200 OK\r\n\r\nabc\r\n", UntilClose(b"abc\r\n")),
    case("http 1.0 until close", "9112 6.3", Plain, b"HTTP/1.0 200 OK\r\n\r\nabc", UntilClose(b"abc")),
    case("http 1.0 with a length", "9112 6.3", Plain, b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc", Whole(b"abc")),
    case("no reason", "9112 4", Plain, b"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", Whole(b"")),
    case("no reason and no space", "9112 4", Plain, b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", Whole(b"")),
    case("high bytes in the reason", "9112 4", Plain, b"HTTP/1.1 200 gr\xc3\xbc\xc3\x9f\tdich\r\nContent-Length: 0\r\n\r\n", Whole(b"")),
    case("high bytes in a value", "9110 5.5", Plain, b"HTTP/1.1 200 OK\r\nX: \xff\r\nContent-Length: 0\r\n\r\n", Whole(b"")),
    case("status 599", "9110 15", Plain, b"HTTP/1.1 599 Odd\r\nContent-Length: 0\r\n\r\n", Whole(b"")),

    // Answers without a body.
    case("head with a length", "9110 8.6", Head, b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", Whole(b"")),
    case("head with a coding", "9112 6.1", Head, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Whole(b"")),
    case("head without anything", "9112 6.3", Head, b"HTTP/1.1 200 OK\r\n\r\n", Whole(b"")),
    case("head with a body", "9112 6.3", Head, b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", Surplus(b"")),
    case("304 with a length", "9110 8.6", Plain, b"HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n", Whole(b"")),
    case("304 with a body", "9112 6.3", Plain, b"HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\nabc", Surplus(b"")),
    case("204", "9112 6.3", Plain, b"HTTP/1.1 204 No Content\r\n\r\n", Whole(b"")),
    case("204 with length zero", "9110 8.6", Plain, b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", Whole(b"")),
    case("204 with a body", "9110 8.6", Plain, b"HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\nabc", Surplus(b"")),
    case("204 with a coding", "9112 6.1", Plain, b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Refuse(V::LengthWithoutBody)),

    // Interim answers.
    case("100 first", "9110 15.2", Plain, b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", Whole(b"abc")),
    case("102 and 103 first", "9110 15.2", Plain, b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Whole(b"")),
    case("an unknown interim answer", "9110 15.2", Plain, b"HTTP/1.1 177 Eh\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Whole(b"")),
    case("interim with length zero", "9110 8.6", Plain, b"HTTP/1.1 100 Continue\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Whole(b"")),
    case("interim with a length", "9110 8.6", Plain, b"HTTP/1.1 103 Hi\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 200 OK\r\n\r\n", Refuse(V::LengthWithoutBody)),
    case("interim with a coding", "9112 6.1", Plain, b"HTTP/1.1 100 Hi\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", Refuse(V::LengthWithoutBody)),
    case("nothing but an interim answer", "9110 15.2", Plain, b"HTTP/1.1 100 Continue\r\n\r\n", Open),
    case("101 unasked", "9110 15.2.2", Plain, b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x00", Refuse(V::UnaskedSwitch)),
    case("101 unasked for HEAD", "9110 15.2.2", Head, b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n", Refuse(V::UnaskedSwitch)),
    case("101 behind an interim answer", "9110 15.2.2", Plain, b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 101 Switching Protocols\r\n\r\n", Refuse(V::UnaskedSwitch)),
    case("101 with a length", "9110 8.6", Upgrade, b"HTTP/1.1 101 Switching Protocols\r\nContent-Length: 3\r\n\r\nabc", Refuse(V::LengthWithoutBody)),
    case("an upgrade declined", "9110 7.8", Upgrade, b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", Whole(b"abc")),

    // Too much and too little.
    case("doubled", "9112 9.2", Plain, b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\naHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nb", Surplus(b"a")),
    case("too long", "9112 6.3", Plain, b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcd", Surplus(b"abc")),
    case("too long by a line", "9112 9.2", Plain, b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc\r\n", Surplus(b"abc")),
    case("more behind the last chunk", "9112 9.2", Plain, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nx", Surplus(b"")),
    case("too short", "9112 8", Plain, b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", Open),
    case("no body at all", "9112 8", Plain, b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", Open),
    case("cut in a chunk", "9112 8", Plain, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab", Open),
    case("cut between chunks", "9112 8", Plain, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", Open),
    case("cut in the last chunk", "9112 8", Plain, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n", Open),
    case("cut in the trailers", "9112 8", Plain, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n", Open),
    case("cut in the head", "9112 8", Plain, b"HTTP/1.1 200 OK\r\nContent-Le", Open),

    // Lengths.
    case("length and coding", "9112 6.1", Plain, b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Refuse(V::LengthAndCoding)),
    case("coding and length", "9112 6.1", Plain, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", Refuse(V::LengthAndCoding)),
    case("length and coding for HEAD", "9112 6.1", Head, b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", Refuse(V::LengthAndCoding)),
    case("two lengths", "9112 6.3", Plain, b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc", Refuse(V::RepeatedContentLength)),
    case("two equal lengths", "9112 6.3", Plain, b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc", Refuse(V::RepeatedContentLength)),
    case("a list of lengths", "9112 6.3", Plain, b"HTTP/1.1 200 OK\r\nContent-Length: 3, 3\r\n\r\nabc", Refuse(V::InvalidContentLength)),
    case("a length with a plus", "9110 8.6", Plain, b"HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\nabc", Refuse(V::InvalidContentLength)),
    case("a length with a minus", "9110 8.6", Plain, b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nabc", Refuse(V::InvalidContentLength)),
    case("a hexadecimal length", "9110 8.6", Plain, b"HTTP/1.1 200 OK\r\nContent-Length: 0x3\r\n\r\nabc", Refuse(V::InvalidContentLength)),
    case("an empty length", "9110 8.6", Plain, b"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n", Refuse(V::InvalidContentLength)),
    case("a length with a space inside", "9110 8.6", Plain, b"HTTP/1.1 200 OK\r\nContent-Length: 1 2\r\n\r\n", Refuse(V::InvalidContentLength)),
    case("a length beyond 64 bits", "9110 8.6", Plain, b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551617\r\n\r\na", Refuse(V::InvalidContentLength)),
    case("a length beyond 63 bits", "9110 8.6", Plain, b"HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775808\r\n\r\na", Refuse(V::InvalidContentLength)),
    case("a bad length of a 304", "9110 8.6", Plain, b"HTTP/1.1 304 Not Modified\r\nContent-Length: x\r\n\r\n", Refuse(V::InvalidContentLength)),

    // Codings.
    case("an unknown coding", "9112 6.1", Plain, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: x\r\n\r\nabc", Refuse(V::InvalidTransferEncoding)),
    case("gzip without chunked", "9112 6.3", Plain, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nabc", Refuse(V::InvalidTransferEncoding)),
    case("gzip and chunked", "9112 6.1", Plain, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", Refuse(V::UnsupportedCoding)),
    case("chunked is not last", "9112 6.3", Plain, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", Refuse(V::InvalidTransferEncoding)),
    case("chunked twice", "9112 6.1", Plain, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", Refuse(V::InvalidTransferEncoding)),
    case("two codings", "9112 6.1", Plain, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Refuse(V::RepeatedTransferEncoding)),
    case("identity", "9112 7", Plain, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nabc", Refuse(V::InvalidTransferEncoding)),
    case("an empty coding", "9112 6.1", Plain, b"HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n\r\nabc", Refuse(V::InvalidTransferEncoding)),
    case("an obscured coding", "9112 6.1", Plain, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", Refuse(V::ControlByte)),
    case("chunked under 1.0", "9112 6.1", Plain, b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Refuse(V::CodingUnderHttp10)),

    // Chunks.
    case("chunks: no size", "9112 7.1", Plain, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", RefuseBody(V::InvalidChunkSize)),
    case("chunks: a size with 0x", "9112 7.1", Plain, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n", RefuseBody(V::InvalidChunkSize)),
    case("chunks: a size of 17 digits", "9112 7.1", Plain, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n00000000000000003\r\nabc\r\n", RefuseBody(V::InvalidChunkSize)),
    case("chunks: space behind the size", "9112 7.1.1", Plain, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3 \r\nabc\r\n", RefuseBody(V::InvalidChunkSize)),
    case("chunks: bare LF behind the size", "9112 2.2", Plain, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\r\n", RefuseBody(V::BareLineFeed)),
    case("chunks: longer than their size", "9112 7.1", Plain, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n", RefuseBody(V::InvalidChunkEnd)),
    case("chunks: a control byte in an extension", "9112 7.1.1", Plain, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a\0\r\nabc\r\n", RefuseBody(V::InvalidChunkExtension)),
    case("chunks: a trailer without a colon", "9112 5", Plain, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX\r\n\r\n", RefuseBody(V::MissingColon)),
    case("chunks: bare LF in trailers", "9112 2.2", Plain, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\n\r\n", RefuseBody(V::BareLineFeed)),

    // The status line.
    case("status 99", "9110 15", Plain, b"HTTP/1.1 099 Low\r\nContent-Length: 0\r\n\r\n", Refuse(V::InvalidStatus)),
    case("status 600", "9110 15", Plain, b"HTTP/1.1 600 High\r\nContent-Length: 0\r\n\r\n", Refuse(V::InvalidStatus)),
    case("status 0", "9110 15", Plain, b"HTTP/1.1 000 None\r\nContent-Length: 0\r\n\r\n", Refuse(V::InvalidStatus)),
    case("a status of two digits", "9112 4", Plain, b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n", Refuse(V::InvalidStatusLine)),
    case("a status of four digits", "9112 4", Plain, b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n", Refuse(V::InvalidStatusLine)),
    case("a status that is no number", "9112 4", Plain, b"HTTP/1.1 2x0 OK\r\nContent-Length: 0\r\n\r\n", Refuse(V::InvalidStatusLine)),
    case("a negative status", "9112 4", Plain, b"HTTP/1.1 -20 OK\r\nContent-Length: 0\r\n\r\n", Refuse(V::InvalidStatusLine)),
    case("two spaces", "9112 4", Plain, b"HTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n", Refuse(V::InvalidStatusLine)),
    case("a tab for the space", "9112 4", Plain, b"HTTP/1.1\t200 OK\r\nContent-Length: 0\r\n\r\n", Refuse(V::InvalidStatusLine)),
    case("http 2 in words", "9112 2.3", Plain, b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n", Refuse(V::UnsupportedVersion)),
    case("http 1.2", "9112 2.3", Plain, b"HTTP/1.2 200 OK\r\nContent-Length: 0\r\n\r\n", Refuse(V::UnsupportedVersion)),
    case("http 0.9 in words", "9112 2.3", Plain, b"HTTP/0.9 200 OK\r\nContent-Length: 0\r\n\r\n", Refuse(V::UnsupportedVersion)),
    case("lower case", "9112 2.3", Plain, b"http/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Refuse(V::InvalidStatusLine)),
    case("a bare body, as in http 0.9", "9112 2.3", Plain, b"<html>hello</html>\n", Refuse(V::InvalidStatusLine)),
    case("icy", "9112 4", Plain, b"ICY 200 OK\r\nicy-name: x\r\n\r\n", Refuse(V::InvalidStatusLine)),
    case("a banner", "9112 4", Plain, b"220 mail ESMTP\r\n", Refuse(V::InvalidStatusLine)),
    case("a request", "9112 4", Plain, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", Refuse(V::InvalidStatusLine)),
    case("an empty line first", "9112 2.2", Plain, b"\r\nHTTP/1.1 200 OK\r\n\r\n", Refuse(V::InvalidStatusLine)),
    case("a space first", "9112 2.2", Plain, b" HTTP/1.1 200 OK\r\n\r\n", Refuse(V::InvalidStatusLine)),
    case("nul in the reason", "9112 4", Plain, b"HTTP/1.1 200 O\0K\r\nContent-Length: 0\r\n\r\n", Refuse(V::ControlByte)),
    case("escape in the reason", "9112 4", Plain, b"HTTP/1.1 200 \x1b[31m\r\nContent-Length: 0\r\n\r\n", Refuse(V::ControlByte)),
    case("cr in the reason", "9112 4", Plain, b"HTTP/1.1 200 OK\rX: y\r\n\r\n", Refuse(V::BareCarriageReturn)),
    case("lf behind the status line", "9112 2.2", Plain, b"HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n", Refuse(V::BareLineFeed)),
    case("lf behind a status alone", "9112 2.2", Plain, b"HTTP/1.1 200\nContent-Length: 0\r\n\r\n", Refuse(V::BareLineFeed)),

    // Fields.
    case("lf behind a field", "9112 2.2", Plain, b"HTTP/1.1 200 OK\r\nX: y\nContent-Length: 0\r\n\r\n", Refuse(V::BareLineFeed)),
    case("lf for the empty line", "9112 2.2", Plain, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\n", Refuse(V::BareLineFeed)),
    case("cr in a value", "9112 2.2", Plain, b"HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n", Refuse(V::BareCarriageReturn)),
    case("nul in a value", "9110 5.5", Plain, b"HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n", Refuse(V::ControlByte)),
    case("delete in a value", "9110 5.5", Plain, b"HTTP/1.1 200 OK\r\nX: a\x7fb\r\n\r\n", Refuse(V::ControlByte)),
    case("nul in a name", "9110 5.1", Plain, b"HTTP/1.1 200 OK\r\nX\0: a\r\n\r\n", Refuse(V::ControlByte)),
    case("a high byte in a name", "9110 5.1", Plain, b"HTTP/1.1 200 OK\r\nX\xe4: a\r\n\r\n", Refuse(V::InvalidName)),
    case("space before the colon", "9112 5.1", Plain, b"HTTP/1.1 200 OK\r\nContent-Length : 3\r\n\r\nabc", Refuse(V::SpaceInName)),
    case("a folded value", "9112 5.2", Plain, b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n", Refuse(V::ObsoleteFold)),
    case("space before the first field", "9112 2.2", Plain, b"HTTP/1.1 200 OK\r\n X: a\r\n\r\n", Refuse(V::ObsoleteFold)),
    case("no name", "9110 5.1", Plain, b"HTTP/1.1 200 OK\r\n: a\r\n\r\n", Refuse(V::EmptyName)),
    case("no colon", "9112 5", Plain, b"HTTP/1.1 200 OK\r\nX\r\n\r\n", Refuse(V::MissingColon)),
];
