//! The categories of the unified log: who said it.

/// Target of the lines that the gateway wrote.
pub(crate) const GATEWAY: &str = "tandem::child::gateway";
/// Target of the lines that ranks wrote.
pub(crate) const RANK: &str = "tandem::child::rank";

/// Who said a line, as `log show --predicate 'category == "rank"'` asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(any(target_os = "macos", test)), allow(dead_code))]
pub(super) enum Category {
    /// The supervisor itself.
    Supervisor,
    /// The gateway.
    Gateway,
    /// A rank.
    Rank,
}

#[cfg_attr(not(any(target_os = "macos", test)), allow(dead_code))]
impl Category {
    /// All.
    pub(super) const ALL: [Self; 3] = [Self::Supervisor, Self::Gateway, Self::Rank];

    /// Its name.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Supervisor => "supervisor",
            Self::Gateway => "gateway",
            Self::Rank => "rank",
        }
    }

    /// The category of what is logged with this target.
    pub(super) fn of(target: &str) -> Self {
        match target {
            GATEWAY => Self::Gateway,
            RANK => Self::Rank,
            _ => Self::Supervisor,
        }
    }
}
