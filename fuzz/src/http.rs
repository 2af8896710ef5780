//! Requests for metrics.

use spad::metrics::http::{Asked, asked, response};

/// The input is what has come so far. Through: it asks for the metrics.
pub fn run(input: &[u8]) -> bool {
    let found = asked(input);
    for cut in 0..input.len().min(64) {
        let earlier = asked(&input[..cut]);
        assert!(earlier == Asked::Unfinished || earlier == found, "what was read is not read anew");
    }
    if found == Asked::Metrics {
        assert!(input.starts_with(b"GET /metrics"), "{input:?}");
    }
    let answer = response(found, Some("body"));
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("Content-Length: {}", body.len())));
    assert_eq!(body == "body", found == Asked::Metrics, "a body for who asked for it alone");
    found == Asked::Metrics
}
