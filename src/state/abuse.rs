//! Ways to make an HTTP/2 connection cost more than its requests are worth.

/// A kind of abuse on an HTTP/2 connection of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum H2Abuse {
    /// Streams opened and reset before they were answered (CVE-2023-44487).
    RapidReset,
    /// Streams that the client's mistakes made us reset (CVE-2025-8671).
    MadeYouReset,
    /// A header block of too many or too large frames (CVE-2024-27316).
    Continuation,
    /// SETTINGS, each of which is to be acknowledged (CVE-2019-9515).
    Settings,
    /// PING, each of which is to be answered (CVE-2019-9512).
    Ping,
    /// PRIORITY, which nobody goes by any more (CVE-2019-9513).
    Priority,
    /// DATA that neither holds nor ends anything (CVE-2019-9518).
    EmptyData,
    /// HEADERS that neither hold nor end anything (CVE-2019-9518).
    EmptyHeaders,
    /// WINDOW_UPDATE without data that it could answer (CVE-2019-9511).
    WindowUpdate,
    /// Streams opened far above those that are answered.
    StreamChurn,
    /// A header list beyond all measure, small as its compressed form may be (CVE-2016-6581).
    HeaderList,
    /// A stream whose answer the client leaves no window for (CVE-2019-9517).
    ZeroWindow,
    /// Frames of types that nobody knows.
    UnknownFrames,
    /// Something against the protocol that is an error of the whole connection (RFC 9113 section
    /// 5.4.1).
    Protocol,
}

impl H2Abuse {
    /// All kinds; each stands at its own number.
    pub const ALL: [H2Abuse; 14] = [
        H2Abuse::RapidReset,
        H2Abuse::MadeYouReset,
        H2Abuse::Continuation,
        H2Abuse::Settings,
        H2Abuse::Ping,
        H2Abuse::Priority,
        H2Abuse::EmptyData,
        H2Abuse::EmptyHeaders,
        H2Abuse::WindowUpdate,
        H2Abuse::StreamChurn,
        H2Abuse::HeaderList,
        H2Abuse::ZeroWindow,
        H2Abuse::UnknownFrames,
        H2Abuse::Protocol,
    ];

    /// The value of a metric label.
    pub fn label(self) -> &'static str {
        match self {
            H2Abuse::RapidReset => "rapid_reset",
            H2Abuse::MadeYouReset => "made_you_reset",
            H2Abuse::Continuation => "continuation",
            H2Abuse::Settings => "settings",
            H2Abuse::Ping => "ping",
            H2Abuse::Priority => "priority",
            H2Abuse::EmptyData => "empty_data",
            H2Abuse::EmptyHeaders => "empty_headers",
            H2Abuse::WindowUpdate => "window_update",
            H2Abuse::StreamChurn => "stream_churn",
            H2Abuse::HeaderList => "header_list",
            H2Abuse::ZeroWindow => "zero_window",
            H2Abuse::UnknownFrames => "unknown_frames",
            H2Abuse::Protocol => "protocol",
        }
    }

    /// Its place in [`H2Abuse::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_stands_at_its_number() {
        for (place, kind) in H2Abuse::ALL.into_iter().enumerate() {
            assert_eq!(kind.index(), place);
        }
    }
}
