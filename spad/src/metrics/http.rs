//! As much of HTTP as a scrape takes. Pure.

/// No request is longer.
const LONGEST: usize = 4096;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Its end has not come yet.
    Unfinished,
    /// The metrics.
    Metrics,
    /// Something that is not here.
    Elsewhere,
    /// Something that is not done here.
    Otherwise,
    /// It is no request.
    Nonsense,
}

/// Reads the head of a request, RFC 9112. Only its first line matters; a body is not
/// waited for.
#[must_use]
pub fn asked(head: &[u8]) -> Asked {
    let ended = |end: &[u8]| head.windows(end.len()).any(|some| some == end);
    if !ended(b"\r\n\r\n") && !ended(b"\n\n") {
        return if head.len() < LONGEST { Asked::Unfinished } else { Asked::Nonsense };
    }
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut words = line.split(|byte| *byte == b' ');
    let [Some(method), Some(target), Some(version), None] = [(); 4].map(|()| words.next()) else {
        return Asked::Nonsense;
    };
    let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
    match (method, path) {
        _ if !version.starts_with(b"HTTP/1.") => Asked::Nonsense,
        (b"GET", b"/metrics") => Asked::Metrics,
        (b"GET", _) => Asked::Elsewhere,
        _ => Asked::Otherwise,
    }
}

/// The whole answer. Without a body where there should be one, it says that.
#[must_use]
pub fn response(asked: Asked, body: Option<&str>) -> String {
    let (status, body) = match (asked, body) {
        (Asked::Metrics, Some(body)) => ("200 OK", body),
        (Asked::Metrics, None) => ("503 Service Unavailable", "spad does not answer\n"),
        (Asked::Elsewhere, _) => ("404 Not Found", "/metrics is here, and nothing else\n"),
        (Asked::Otherwise, _) => ("405 Method Not Allowed", "GET alone\n"),
        (Asked::Nonsense | Asked::Unfinished, _) => ("400 Bad Request", "no request\n"),
    };
    let kind = match status {
        "200 OK" => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        _ => "text/plain; charset=utf-8",
    };
    let length = body.len();
    format!(
        "HTTP/1.0 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_line_of_a_whole_head_matters() {
        for (head, expected) in [
            ("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n", Asked::Metrics),
            ("GET /metrics?x=1 HTTP/1.0\n\n", Asked::Metrics),
            ("GET /metrics HTTP/1.1\r\nHost: a\r\n", Asked::Unfinished),
            ("", Asked::Unfinished),
            ("GET / HTTP/1.1\r\n\r\n", Asked::Elsewhere),
            ("GET /metricsx HTTP/1.1\r\n\r\n", Asked::Elsewhere),
            ("POST /metrics HTTP/1.1\r\n\r\nbody", Asked::Otherwise),
            ("GET  /metrics HTTP/1.1\r\n\r\n", Asked::Nonsense),
            ("GET /metrics SPDY/3\r\n\r\n", Asked::Nonsense),
            ("\n\n", Asked::Nonsense),
        ] {
            assert_eq!(asked(head.as_bytes()), expected, "{head:?}");
        }
        assert_eq!(asked(&[b'x'; LONGEST]), Asked::Nonsense);
    }

    #[test]
    fn the_length_is_that_of_the_body() {
        let ok = response(Asked::Metrics, Some("grün\n"));
        assert!(
            ok.starts_with("HTTP/1.0 200 OK\r\n") && ok.contains("Content-Length: 6\r\n"),
            "{ok}"
        );
        assert!(response(Asked::Metrics, None).starts_with("HTTP/1.0 503 "));
        assert!(response(Asked::Nonsense, Some("secret")).ends_with("no request\n"));
    }
}
