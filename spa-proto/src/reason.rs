//! Why a datagram came to nothing, or that it did not.

/// What became of one datagram. Each gets exactly one; all are counted, and
/// only those past the HMAC may be logged (protocol §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Reason {
    /// Everything held: a grant was made.
    Granted,

    // Before the gate.
    /// Never looked at: the kernel had no more room for what came faster than it
    /// was read.
    Lost,

    // The gate, in the order of its checks.
    /// Not 336 bytes.
    Length,
    /// A source that nobody can answer to, or not addressed to this host.
    Addressing,
    /// No client has this pseudonym now.
    UnknownClient,
    /// The HMAC does not verify.
    BadTag,
    /// The pseudonym is of another epoch than the time in the packet.
    EpochMismatch,
    /// Outside the tolerance around the server's clock.
    Stale,
    /// Seen before: a copy.
    Duplicate,
    /// The client has used up its budget of public-key work.
    OverBudget,
    /// All clients together have used up theirs.
    OverCap,
    /// The ephemeral key is of small order.
    BadEphemeral,
    /// The encryption does not authenticate.
    BadSeal,
    /// The body is not in canonical form.
    NotCanonical,

    // The warden, in the order of its checks.
    /// The client was revoked, or its record changed, between gate and warden.
    NoRecord,
    /// The client has not enrolled yet and this is no enrolment.
    NotEnrolled,
    /// The signature does not verify.
    BadSignature,
    /// The enrolment's secret is not the token's.
    BadEnrolSecret,
    /// The token was not used in time.
    EnrolExpired,
    /// The token was used already, with another key.
    EnrolTaken,
    /// The client is disabled, or its person is.
    ClientDisabled,
    /// The client's record has expired.
    ClientExpired,
    /// The record does not allow this time of day.
    TimeNotAllowed,
    /// The record does not allow this kind of address.
    AddressKind,
    /// The seen address is not within the prefix that the client named.
    OutsidePrefix,
    /// The record does not allow this source.
    SourceNotAllowed,
    /// An address that is never granted: this host's own, loopback, multicast…
    NotGrantable,
    /// No such service here.
    UnknownService,
    /// The record does not allow this service.
    ServiceNotAllowed,
    /// The record does not allow this grant mode.
    ModeNotAllowed,
    /// The record does not allow a prefix this wide, or the server has none.
    WidthNotAllowed,
    /// Used already, or older than what is remembered exactly.
    Replayed,
    /// Older than the last start without a journal: cannot be told from a replay.
    BeforeStart,
    /// What must survive a crash could not be written: journal, lease or enrolment.
    NotDurable,
    /// The set of grants is full.
    Full,
    /// The firewall could not be changed.
    Firewall,
}

impl Reason {
    /// Every reason, in order.
    pub const ALL: [Self; 36] = [
        Self::Granted,
        Self::Lost,
        Self::Length,
        Self::Addressing,
        Self::UnknownClient,
        Self::BadTag,
        Self::EpochMismatch,
        Self::Stale,
        Self::Duplicate,
        Self::OverBudget,
        Self::OverCap,
        Self::BadEphemeral,
        Self::BadSeal,
        Self::NotCanonical,
        Self::NoRecord,
        Self::NotEnrolled,
        Self::BadSignature,
        Self::BadEnrolSecret,
        Self::EnrolExpired,
        Self::EnrolTaken,
        Self::ClientDisabled,
        Self::ClientExpired,
        Self::TimeNotAllowed,
        Self::AddressKind,
        Self::OutsidePrefix,
        Self::SourceNotAllowed,
        Self::NotGrantable,
        Self::UnknownService,
        Self::ServiceNotAllowed,
        Self::ModeNotAllowed,
        Self::WidthNotAllowed,
        Self::Replayed,
        Self::BeforeStart,
        Self::NotDurable,
        Self::Full,
        Self::Firewall,
    ];

    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// Position in [`Self::ALL`], for arrays of counters.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Name in counters, logs and JSON: lower case, words joined by hyphens.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Granted => "granted",
            Self::Lost => "lost",
            Self::Length => "length",
            Self::Addressing => "addressing",
            Self::UnknownClient => "unknown-client",
            Self::BadTag => "bad-tag",
            Self::EpochMismatch => "epoch-mismatch",
            Self::Stale => "stale",
            Self::Duplicate => "duplicate",
            Self::OverBudget => "over-budget",
            Self::OverCap => "over-cap",
            Self::BadEphemeral => "bad-ephemeral",
            Self::BadSeal => "bad-seal",
            Self::NotCanonical => "not-canonical",
            Self::NoRecord => "no-record",
            Self::NotEnrolled => "not-enrolled",
            Self::BadSignature => "bad-signature",
            Self::BadEnrolSecret => "bad-enrol-secret",
            Self::EnrolExpired => "enrol-expired",
            Self::EnrolTaken => "enrol-taken",
            Self::ClientDisabled => "client-disabled",
            Self::ClientExpired => "client-expired",
            Self::TimeNotAllowed => "time-not-allowed",
            Self::AddressKind => "address-kind",
            Self::OutsidePrefix => "outside-prefix",
            Self::SourceNotAllowed => "source-not-allowed",
            Self::NotGrantable => "not-grantable",
            Self::UnknownService => "unknown-service",
            Self::ServiceNotAllowed => "service-not-allowed",
            Self::ModeNotAllowed => "mode-not-allowed",
            Self::WidthNotAllowed => "width-not-allowed",
            Self::Replayed => "replayed",
            Self::BeforeStart => "before-start",
            Self::NotDurable => "not-durable",
            Self::Full => "full",
            Self::Firewall => "firewall",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_are_positions_and_names_differ() {
        let mut names: Vec<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        assert!(Reason::ALL.iter().enumerate().all(|(at, reason)| reason.index() == at));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Reason::COUNT);
    }
}
