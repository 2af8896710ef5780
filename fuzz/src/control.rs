//! The control socket: what an administrator's program asks, and what it is
//! answered.

use spa_keys::cidr;
use spad::control::{Answer, Request};
use spad::show;

/// The input is one line. Through: it is a request or an answer.
pub fn run(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    request(text) | answer(text)
}

fn request(text: &str) -> bool {
    let Ok(request) = serde_json::from_str::<Request>(text) else { return false };
    if let Request::Ban { by, network, .. } | Request::Unban { by, network } = &request {
        assert_eq!(*by, None, "who asks was taken from what is asked");
        if let Ok(network) = cidr::parse(network) {
            assert_eq!(cidr::parse(&network.to_string()), Ok(network));
        }
    }
    let written = serde_json::to_string(&request).unwrap();
    assert!(!written.contains('\n'), "more than one line");
    assert_eq!(serde_json::from_str::<Request>(&written).unwrap(), request);
    true
}

fn answer(text: &str) -> bool {
    let Ok(answer) = serde_json::from_str::<Answer>(text) else { return false };
    let written = serde_json::to_string(&answer).unwrap();
    let again: Answer = serde_json::from_str(&written).unwrap();
    assert_eq!(serde_json::to_string(&again).unwrap(), written);
    assert!(show::text(&answer).ends_with('\n') || is_list(&answer));
    assert!(serde_json::from_str::<serde_json::Value>(&show::json(&answer)).is_ok());
    true
}

/// Some lists that are empty are shown as nothing.
fn is_list(answer: &Answer) -> bool {
    matches!(answer, Answer::Rules(_) | Answer::Unbanned(_))
}
