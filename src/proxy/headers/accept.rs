//! Which kind of body a client wants to read an error in.

use super::split;

/// True if the client names JSON and likes it at least as much as text (RFC 9110 section 12.5.1);
/// of equals the first named counts. Wildcards are for text: they come from people's tools. `accept`
/// are the values of Accept.
pub fn wants_json<'a>(accept: impl Iterator<Item = &'a [u8]>) -> bool {
    let (mut json, mut text) = (0, 0);
    let mut json_first = false;
    for range in accept.flat_map(split) {
        let mut parameters = range.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
        let media = parameters.next().unwrap_or_default();
        let weight = parameters.find_map(weight).unwrap_or(1000);
        if is_json(media) {
            json_first |= text == 0;
            json = weight.max(json);
        } else if is_text(media) {
            text = weight.max(text);
        }
    }
    json > 0 && (json > text || (json == text && json_first))
}

fn is_json(media: &[u8]) -> bool {
    let suffix = media.len().checked_sub(5).map(|at| &media[at..]);
    media.eq_ignore_ascii_case(b"application/json")
        || suffix.is_some_and(|suffix| suffix.eq_ignore_ascii_case(b"+json"))
}

fn is_text(media: &[u8]) -> bool {
    media.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"text/")) || media == b"*/*"
}

/// A `q` parameter in thousandths (RFC 9110 section 12.4.2). Malformed ones count as zero.
fn weight(parameter: &[u8]) -> Option<u32> {
    let [b'q' | b'Q', b'=', value @ ..] = parameter else {
        return None;
    };
    let value = std::str::from_utf8(value).ok().and_then(|text| text.parse::<f32>().ok());
    Some(value.filter(|q| (0.0..=1.0).contains(q)).map_or(0, |q| (q * 1000.0).round() as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_where_it_is_liked_best() {
        let table = [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/problem+json", true),
            ("application/json, text/plain, */*", true),
            ("application/json, */*;q=0.1", true),
            ("text/html;q=0.5, application/json", true),
            ("", false),
            ("*/*", false),
            ("application/*", false),
            ("text/plain, application/json", false),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", false),
            ("application/json;q=0", false),
            ("application/json;q=0.5, text/html", false),
            ("application/json;q=x", false),
            ("application/jsonp", false),
            ("json", false),
        ];
        for (accept, wanted) in table {
            assert_eq!(wants_json([accept.as_bytes()].into_iter()), wanted, "{accept}");
        }
        assert!(!wants_json([].into_iter()));
        assert!(wants_json([&b"text/html;q=0.1"[..], b"application/json"].into_iter()));
    }
}
