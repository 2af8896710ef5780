//! A message between the two processes, read by either side. The gatekeeper
//! may be in an attacker's hands: what it says must not hurt the warden.

use std::time::Duration;

use spa_proto::{ServerPublic, SigningKey, Timestamp, Tolerance, Verifier};
use spad::ipc::{FRAME_LEN, Frame, ToGate, ToWarden};

/// The input is the frame, filled up with zeros; what is longer is none.
/// Through: either side understands it.
pub fn run(input: &[u8]) -> bool {
    if input.len() > FRAME_LEN {
        return false;
    }
    let mut bytes = [0; FRAME_LEN];
    bytes[..input.len()].copy_from_slice(input);
    let frame = Frame::from(bytes);
    to_gate(&frame) | to_warden(&frame)
}

fn to_gate(frame: &Frame) -> bool {
    let Some(message) = ToGate::decode(frame) else { return false };
    assert!(*message.encode() == **frame, "two frames for one message");
    true
}

fn to_warden(frame: &Frame) -> bool {
    let Some(message) = ToWarden::decode(frame) else { return false };
    assert!(*message.encode() == **frame, "two frames for one message");
    if let ToWarden::Request(request) = message {
        // A request of any time is within this window, so that the rest is looked at.
        let tolerance = Tolerance::new(Duration::MAX);
        let bound = Verifier::Bound(SigningKey::from_seed(&[7; 32]).verifying_key());
        let server = ServerPublic::from_bytes([8; 32]);
        let verdict = request.verify(&server, &bound, Timestamp::ZERO, tolerance);
        assert!(verdict.is_err(), "forged");
    }
    true
}
