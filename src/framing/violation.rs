//! What a peer can get wrong on the wire, and what to call it.

use http::StatusCode;

/// A breach of the rules for messages. Under HTTP/1.1 the connection cannot be used further; under
/// HTTP/2 it ends the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Violation {
    /// A line ended by LF alone (RFC 9112 section 2.2 allows, but does not ask, to accept it).
    BareLineFeed,
    /// CR without LF after it (RFC 9112 section 2.2).
    BareCarriageReturn,
    /// NUL or another control byte (RFC 9110 section 5.5).
    ControlByte,
    /// A continuation line (RFC 9112 section 5.2), or space before the first field (section 2.2).
    ObsoleteFold,
    /// White space in or after a field name (RFC 9112 section 5.1).
    SpaceInName,
    /// A line that begins with a colon (RFC 9110 section 5.1).
    EmptyName,
    /// A field name that is not a token (RFC 9110 section 5.1).
    InvalidName,
    /// A field line without a colon (RFC 9112 section 5).
    MissingColon,
    /// More empty lines before a request line than are tolerated (RFC 9112 section 2.2).
    EmptyLines,
    /// A method that is not a token (RFC 9110 section 9.1).
    InvalidMethod,
    /// A target in none of the four forms, in the wrong one for the method, or with bytes that a
    /// URI cannot hold (RFC 9112 section 3.2).
    InvalidTarget,
    /// `#` in the target (RFC 9112 section 3.2.1).
    FragmentInTarget,
    /// `.` or `..` as a path segment, plainly or percent-encoded (RFC 3986 section 3.3).
    DotSegment,
    /// A request line of another shape, HTTP/0.9 among them (RFC 9112 section 3).
    InvalidRequestLine,
    /// A well-formed version other than HTTP/1.0 and HTTP/1.1 (RFC 9110 section 15.6.6).
    UnsupportedVersion,
    /// No Host under HTTP/1.1 (RFC 9112 section 3.2).
    MissingHost,
    /// More than one Host field (RFC 9112 section 3.2).
    RepeatedHost,
    /// Host, or the target's authority, is not `host[:port]` (RFC 9112 section 3.2).
    InvalidHost,
    /// Host disagrees with the target's authority (RFC 9112 section 3.2.2).
    HostMismatch,
    /// Content-Length is not a number below 2^63, or a list (RFC 9112 section 6.3).
    InvalidContentLength,
    /// More than one Content-Length, equal or not (RFC 9112 section 6.3).
    RepeatedContentLength,
    /// `Content_Length` or `Transfer_Encoding`, which some backends read as the real ones.
    ObscuredFraming,
    /// Transfer-Encoding does not end in one plain `chunked` (RFC 9112 sections 6.1 and 6.3).
    InvalidTransferEncoding,
    /// More than one Transfer-Encoding field (RFC 9112 section 6.1).
    RepeatedTransferEncoding,
    /// A coding before `chunked` that we do not have (RFC 9112 section 6.1).
    UnsupportedCoding,
    /// Transfer-Encoding under HTTP/1.0 (RFC 9112 section 6.1).
    CodingUnderHttp10,
    /// Transfer-Encoding and Content-Length in one head (RFC 9112 section 6.1).
    LengthAndCoding,
    /// Expect with something else than `100-continue` (RFC 9110 section 10.1.1).
    UnsupportedExpectation,
    /// The request line alone is over the limit of a head (RFC 9110 section 15.5.15).
    RequestLineTooLong,
    /// A head, or trailers, over the limit in bytes (RFC 6585 section 5).
    HeadTooLarge,
    /// More fields than the limit (RFC 6585 section 5).
    TooManyFields,
    /// A chunk size that is not one to 16 hexadecimal digits (RFC 9112 section 7.1).
    InvalidChunkSize,
    /// A chunk extension without a name, or with control bytes (RFC 9112 section 7.1.1).
    InvalidChunkExtension,
    /// Chunk extensions over the limit (RFC 9112 section 7.1.1).
    ChunkExtensionTooLong,
    /// Chunk data not followed by CRLF (RFC 9112 section 7.1).
    InvalidChunkEnd,
    /// A trailer that could change the meaning of the head (RFC 9110 section 6.5.1).
    ForbiddenTrailer,
    /// A status line of another shape, HTTP/0.9 and other protocols among them (RFC 9112
    /// section 4).
    InvalidStatusLine,
    /// A status outside 100 to 599 (RFC 9110 section 15).
    InvalidStatus,
    /// Bytes from a backend that has no request to answer: before it was asked, or behind the end
    /// of its answer (RFC 9112 section 9.2).
    Unsolicited,
    /// 101 for a request that did not ask to switch protocols (RFC 9110 section 15.2.2).
    UnaskedSwitch,
    /// A length or a coding on a status that never has a body (RFC 9110 section 8.6, RFC 9112
    /// section 6.1).
    LengthWithoutBody,
    /// More interim (1xx) answers than are tolerated (RFC 9110 section 15.2).
    TooManyInterim,
    /// White space at an end of a field value, under HTTP/2 (RFC 9113 section 8.2.1).
    SpaceAroundValue,
}

impl Violation {
    /// The status that describes it best, where a client is to blame.
    pub fn status(self) -> StatusCode {
        match self {
            Self::RequestLineTooLong => StatusCode::URI_TOO_LONG,
            Self::UnsupportedExpectation => StatusCode::EXPECTATION_FAILED,
            Self::HeadTooLarge | Self::TooManyFields => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::UnsupportedCoding => StatusCode::NOT_IMPLEMENTED,
            Self::UnsupportedVersion => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// The value of a metric label.
    pub fn label(self) -> &'static str {
        match self {
            Self::BareLineFeed => "bare_line_feed",
            Self::BareCarriageReturn => "bare_carriage_return",
            Self::ControlByte => "control_byte",
            Self::ObsoleteFold => "obsolete_fold",
            Self::SpaceInName => "space_in_name",
            Self::EmptyName => "empty_name",
            Self::InvalidName => "invalid_name",
            Self::MissingColon => "missing_colon",
            Self::EmptyLines => "empty_lines",
            Self::InvalidMethod => "invalid_method",
            Self::InvalidTarget => "invalid_target",
            Self::FragmentInTarget => "fragment_in_target",
            Self::DotSegment => "dot_segment",
            Self::InvalidRequestLine => "invalid_request_line",
            Self::UnsupportedVersion => "unsupported_version",
            Self::MissingHost => "missing_host",
            Self::RepeatedHost => "repeated_host",
            Self::InvalidHost => "invalid_host",
            Self::HostMismatch => "host_mismatch",
            Self::InvalidContentLength => "invalid_content_length",
            Self::RepeatedContentLength => "repeated_content_length",
            Self::ObscuredFraming => "obscured_framing",
            Self::InvalidTransferEncoding => "invalid_transfer_encoding",
            Self::RepeatedTransferEncoding => "repeated_transfer_encoding",
            Self::UnsupportedCoding => "unsupported_coding",
            Self::CodingUnderHttp10 => "coding_under_http10",
            Self::LengthAndCoding => "length_and_coding",
            Self::UnsupportedExpectation => "unsupported_expectation",
            Self::RequestLineTooLong => "request_line_too_long",
            Self::HeadTooLarge => "head_too_large",
            Self::TooManyFields => "too_many_fields",
            Self::InvalidChunkSize => "invalid_chunk_size",
            Self::InvalidChunkExtension => "invalid_chunk_extension",
            Self::ChunkExtensionTooLong => "chunk_extension_too_long",
            Self::InvalidChunkEnd => "invalid_chunk_end",
            Self::ForbiddenTrailer => "forbidden_trailer",
            Self::InvalidStatusLine => "invalid_status_line",
            Self::InvalidStatus => "invalid_status",
            Self::Unsolicited => "unsolicited",
            Self::UnaskedSwitch => "unasked_switch",
            Self::LengthWithoutBody => "length_without_body",
            Self::TooManyInterim => "too_many_interim",
            Self::SpaceAroundValue => "space_around_value",
        }
    }

    /// The reason in words, for the log.
    pub fn reason(self) -> &'static str {
        match self {
            Self::BareLineFeed => "a line ends in LF without CR",
            Self::BareCarriageReturn => "CR without LF after it",
            Self::ControlByte => "a control byte in the head",
            Self::ObsoleteFold => "a field line begins with white space",
            Self::SpaceInName => "white space between a field name and its colon",
            Self::EmptyName => "a field line without a name",
            Self::InvalidName => "a field name with forbidden bytes",
            Self::MissingColon => "a field line without a colon",
            Self::EmptyLines => "too many empty lines before the request line",
            Self::InvalidMethod => "the method is not a token",
            Self::InvalidTarget => "the request target is not valid",
            Self::FragmentInTarget => "the request target has a fragment",
            Self::DotSegment => "the path has a dot segment",
            Self::InvalidRequestLine => "the request line is malformed",
            Self::UnsupportedVersion => "neither HTTP/1.0 nor HTTP/1.1",
            Self::MissingHost => "Host is missing",
            Self::RepeatedHost => "more than one Host",
            Self::InvalidHost => "Host is not host[:port]",
            Self::HostMismatch => "Host disagrees with the request target",
            Self::InvalidContentLength => "Content-Length is not one number below 2^63",
            Self::RepeatedContentLength => "more than one Content-Length",
            Self::ObscuredFraming => "a framing field spelled with an underscore",
            Self::InvalidTransferEncoding => "Transfer-Encoding does not end in one plain chunked",
            Self::RepeatedTransferEncoding => "more than one Transfer-Encoding",
            Self::UnsupportedCoding => "a transfer coding other than chunked",
            Self::CodingUnderHttp10 => "Transfer-Encoding under HTTP/1.0",
            Self::LengthAndCoding => "both Transfer-Encoding and Content-Length",
            Self::UnsupportedExpectation => "Expect is not 100-continue",
            Self::RequestLineTooLong => "the request line is longer than max_header_bytes",
            Self::HeadTooLarge => "the head is larger than allowed",
            Self::TooManyFields => "more fields than allowed",
            Self::InvalidChunkSize => "a chunk size that is not 1 to 16 hexadecimal digits",
            Self::InvalidChunkExtension => "a malformed chunk extension",
            Self::ChunkExtensionTooLong => "chunk extensions are too long",
            Self::InvalidChunkEnd => "chunk data is not followed by CRLF",
            Self::ForbiddenTrailer => "a trailer that belongs into the head",
            Self::InvalidStatusLine => "the status line is malformed",
            Self::InvalidStatus => "the status is not between 100 and 599",
            Self::Unsolicited => "bytes that answer no request",
            Self::UnaskedSwitch => "101 for a request that asked for no other protocol",
            Self::LengthWithoutBody => "a body is announced where there can be none",
            Self::TooManyInterim => "too many interim (1xx) answers",
            Self::SpaceAroundValue => "a field value begins or ends with white space",
        }
    }
}
