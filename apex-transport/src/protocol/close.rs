use apex_core::error::{Error, Kind};

/// What a client does after a close code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// Do not come back unchanged.
    Stop,
    /// Before `welcome` try the next way of the chain; after it back off with jitter and resume.
    NextWayOrResume,
    /// A new ticket, once; else the next way of the chain.
    NewTicketOnce,
    /// Back off with jitter, connect again, resume.
    Resume,
    /// As [`Advice::Resume`], after the delay of the `draining` frame.
    ResumeElsewhere,
    /// A new credential, then resume.
    NewCredential,
}

/// One row of the table of close codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CloseRow {
    /// The number on the wire.
    pub code: u16,
    /// The name, also the reason on the wire where nothing better is known.
    pub name: &'static str,
    /// What a client does.
    pub advice: Advice,
}

macro_rules! close_codes {
    ($($name:ident $code:literal $text:literal $advice:ident $doc:literal;)*) => {
        /// Why a connection was closed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum CloseCode {
            $(#[doc = $doc] $name,)*
        }

        impl CloseCode {
            /// Every code, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The row of the table.
            #[must_use]
            pub const fn row(self) -> CloseRow {
                match self {
                    $(Self::$name => CloseRow { code: $code, name: $text, advice: Advice::$advice },)*
                }
            }
        }
    };
}

close_codes! {
    Done 1000 "done" Stop "Asked for.";
    Gone 1001 "gone" NextWayOrResume "Gone on the way: the peer does not answer.";
    Protocol 1002 "protocol" Stop "Not WebSocket.";
    NotText 1003 "kind" Stop "A binary message; frames are text.";
    NotUtf8 1007 "utf8" Stop "Text that is not UTF-8.";
    Policy 1008 "policy" Stop "Against the rules of this server.";
    TooLarge 1009 "size" Stop "A message past the limit.";
    Defect 1011 "internal" Resume "A defect of ours; the reason carries the correlation id.";
    Draining 1012 "draining" ResumeElsewhere "This node shuts down; a `draining` frame came before.";
    Unavailable 1013 "unavailable" Resume "Full, or something that this needs is down.";
    BadFrames 4400 "bad_frames" Stop "Too many bad frames.";
    BadCredential 4401 "bad_credential" NewTicketOnce "No credential, or a bad one.";
    NotAllowed 4403 "not_allowed" Stop "Let in, but not for this.";
    Replaced 4409 "replaced" Stop "A newer connection took its place.";
    TooManyConnections 4429 "too_many_connections" Stop "This user's connections are at their limit.";
    CredentialExpired 4501 "credential_expired" NewCredential "The credential ran out.";
    NoHello 4504 "no_hello" Resume "No `hello` in time.";
    SlowConsumer 4508 "slow_consumer" Resume "The client reads more slowly than the bound allows.";
    PositionLost 4510 "position_lost" Resume "The server saw a hole in what it was about to send.";
}

impl CloseCode {
    /// The number on the wire.
    #[must_use]
    pub const fn code(self) -> u16 {
        self.row().code
    }

    /// The code with that number, if it is in the table.
    #[must_use]
    pub fn from_code(code: u16) -> Option<Self> {
        Self::ALL.iter().copied().find(|row| row.code() == code)
    }

    /// What a client does after any number, also one that is not in the table: 44xx is final, the rest may come back.
    #[must_use]
    pub fn advice_for(code: u16) -> Advice {
        match Self::from_code(code) {
            Some(known) => known.row().advice,
            None => match code {
                1005 | 1006 => Advice::NextWayOrResume,
                4400..=4499 => Advice::Stop,
                _ => Advice::Resume,
            },
        }
    }

    /// The code with which a connection is closed whose entry failed for `error`.
    #[must_use]
    pub fn for_refusal(error: &Error) -> Self {
        match error.kind() {
            Kind::Unauthenticated | Kind::TokenExpired => Self::BadCredential,
            Kind::OriginDenied | Kind::Csrf | Kind::Forbidden | Kind::NotFound => Self::NotAllowed,
            Kind::TooManyConnections => Self::TooManyConnections,
            Kind::Draining => Self::Draining,
            Kind::TooLarge => Self::TooLarge,
            Kind::BadRequest | Kind::BadFrame => Self::Policy,
            Kind::Unavailable
            | Kind::PoolExhausted
            | Kind::Storage
            | Kind::RateLimited
            | Kind::DeadlineExceeded => Self::Unavailable,
            _ => Self::Defect,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_the_ranges_keep_their_word() {
        let mut seen = std::collections::HashSet::new();
        for code in CloseCode::ALL {
            assert!(seen.insert(code.code()), "{} twice", code.code());
            assert_eq!(CloseCode::from_code(code.code()), Some(*code));
            let row = code.row();
            if (4500..4600).contains(&row.code) {
                assert_ne!(row.advice, Advice::Stop, "45xx may come back: {}", row.name);
            }
            if (4400..4500).contains(&row.code) {
                assert!(matches!(row.advice, Advice::Stop | Advice::NewTicketOnce));
            }
        }
        assert_eq!(CloseCode::advice_for(1006), Advice::NextWayOrResume);
        assert_eq!(CloseCode::advice_for(4499), Advice::Stop);
        assert_eq!(CloseCode::advice_for(4599), Advice::Resume);
    }

    /// Section 6 of the protocol, row by row.
    #[test]
    fn the_table_is_that_of_the_protocol() {
        use Advice::{
            NewCredential, NewTicketOnce, NextWayOrResume, Resume, ResumeElsewhere, Stop,
        };
        let table = [
            (1000, "done", Stop),
            (1001, "gone", NextWayOrResume),
            (1002, "protocol", Stop),
            (1003, "kind", Stop),
            (1007, "utf8", Stop),
            (1008, "policy", Stop),
            (1009, "size", Stop),
            (1011, "internal", Resume),
            (1012, "draining", ResumeElsewhere),
            (1013, "unavailable", Resume),
            (4400, "bad_frames", Stop),
            (4401, "bad_credential", NewTicketOnce),
            (4403, "not_allowed", Stop),
            (4409, "replaced", Stop),
            (4429, "too_many_connections", Stop),
            (4501, "credential_expired", NewCredential),
            (4504, "no_hello", Resume),
            (4508, "slow_consumer", Resume),
            (4510, "position_lost", Resume),
        ];
        let rows: Vec<_> = CloseCode::ALL.iter().map(|code| code.row()).collect();
        let rows: Vec<_> = rows.iter().map(|row| (row.code, row.name, row.advice)).collect();
        assert_eq!(rows, table);
        assert_eq!(CloseCode::advice_for(1005), NextWayOrResume);
    }

    #[test]
    fn a_refusal_at_the_door_has_the_code_that_tells_what_to_do() {
        for (kind, code) in [
            (Kind::Unauthenticated, 4401),
            (Kind::TokenExpired, 4401),
            (Kind::OriginDenied, 4403),
            (Kind::Csrf, 4403),
            (Kind::Forbidden, 4403),
            (Kind::NotFound, 4403),
            (Kind::TooManyConnections, 4429),
            (Kind::Draining, 1012),
            (Kind::TooLarge, 1009),
            (Kind::BadRequest, 1008),
            (Kind::BadFrame, 1008),
            (Kind::Unavailable, 1013),
            (Kind::PoolExhausted, 1013),
            (Kind::Storage, 1013),
            (Kind::RateLimited, 1013),
            (Kind::DeadlineExceeded, 1013),
            (Kind::Internal, 1011),
        ] {
            let error = Error::new(kind, "test", "x");
            assert_eq!(CloseCode::for_refusal(&error).code(), code, "{kind:?}");
        }
    }

    #[test]
    fn a_bad_credential_is_never_called_a_defect() {
        for kind in [Kind::Unauthenticated, Kind::TokenExpired] {
            let error = Error::new(kind, "test", "x");
            assert_eq!(CloseCode::for_refusal(&error), CloseCode::BadCredential);
        }
        let error = Error::new(Kind::Unavailable, "test", "x");
        assert_eq!(CloseCode::for_refusal(&error), CloseCode::Unavailable);
    }
}
