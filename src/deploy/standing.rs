//! Which version of a pool serves: what the file wants, what really serves, and why these differ.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::message::Outcome;

/// What is wanted of a pool and what it does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// `active` of the file, as last read.
    pub wanted: String,
    /// The version that serves.
    pub serving: String,
    /// Why another serves than is wanted; in force until `active` changes or equals `serving`.
    pub override_: Option<Override>,
}

/// Why another version serves than the file wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Override {
    /// What happened.
    pub cause: Cause,
    /// The report of it.
    pub report: u64,
    /// Since when, as a time since the Unix epoch.
    pub since: Duration,
}

/// What made another version serve than the file wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// A swap that somebody asked for.
    Swap,
    /// A rollback, by verdict or by hand.
    RollBack,
    /// The gate refused the wanted version.
    Refused,
    /// The swap to the wanted version was given up.
    Cancelled,
}

impl Cause {
    /// A word for it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Swap => "swap",
            Self::RollBack => "rollback",
            Self::Refused => "refused",
            Self::Cancelled => "cancelled",
        }
    }

    /// The cause of this word.
    #[must_use]
    pub fn from_label(label: &str) -> Option<Self> {
        let all = [Self::Swap, Self::RollBack, Self::Refused, Self::Cancelled];
        all.into_iter().find(|cause| cause.label() == label)
    }

    fn words(self) -> &'static str {
        match self {
            Self::Swap => "the swap",
            Self::RollBack => "the rollback",
            Self::Refused => "the refusal",
            Self::Cancelled => "the cancelled swap",
        }
    }
}

impl From<Outcome> for Cause {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Kept | Outcome::Undecided => Self::Swap,
            Outcome::RolledBack => Self::RollBack,
            Outcome::Refused => Self::Refused,
            Outcome::Cancelled => Self::Cancelled,
        }
    }
}

/// What a reload asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Nothing: what serves is left alone.
    Nothing,
    /// A swap to this version, which `active` was changed to.
    Swap(String),
    /// Nothing, since an override is in force; [`Standing::explain`] has more.
    Overridden,
}

impl Standing {
    /// That of a pool which nothing was known of.
    #[must_use]
    pub fn new(active: &str) -> Self {
        Self { wanted: active.to_owned(), serving: active.to_owned(), override_: None }
    }

    /// That after a start, from what was kept of the last run and from the file; with a warning if
    /// the file overrules what served. Where `active` differs from what it was, or what served is
    /// gone, the file wins, unguarded.
    #[must_use]
    pub fn at_start(
        kept: Option<Self>,
        active: &str,
        has_version: impl Fn(&str) -> bool,
    ) -> (Self, Option<String>) {
        let Some(kept) = kept else { return (Self::new(active), None) };
        if kept.wanted == active && has_version(&kept.serving) {
            return (kept, None);
        }
        let served = &kept.serving;
        let warning = (served != active).then(|| {
            format!(
                "{served} served before the restart, but the file wants {active} now: {active} \
                 serves, without a gate and a watch"
            )
        });
        (Self::new(active), warning)
    }

    /// Takes the file after a reload.
    pub fn reloaded(&mut self, active: &str) -> Wish {
        if self.wanted == active {
            return self.override_.map_or(Wish::Nothing, |_| Wish::Overridden);
        }
        active.clone_into(&mut self.wanted);
        self.override_ = None;
        if self.serving == active { Wish::Nothing } else { Wish::Swap(active.to_owned()) }
    }

    /// A swap to `asked` has moved traffic there, has brought it back, or has come to nothing.
    pub fn moved(&mut self, asked: &str, serving: &str, over: Override) {
        // Where neither is touched, why they differ is what it was before.
        let is_untouched = self.serving == serving && self.wanted != asked;
        serving.clone_into(&mut self.serving);
        let before = self.override_.filter(|_| is_untouched);
        self.override_ = (self.serving != self.wanted).then_some(before.unwrap_or(over));
    }

    /// The override in words and what to type, if no swap is on its way to what is wanted already;
    /// `None`: that serves.
    #[must_use]
    pub fn explain(&self, pool: &str, on_its_way: Option<u64>) -> Option<String> {
        let Override { cause, report, .. } = self.override_?;
        let Self { wanted, serving, .. } = self;
        let command = format!("`tidegate swap {pool} {wanted}`");
        let next = match (on_its_way, cause) {
            (Some(id), _) => format!("swap {id} is on its way there"),
            // Nothing has failed.
            (None, Cause::Swap) => {
                format!("{command} goes there, or set active = \"{serving}\" in the file")
            }
            (None, _) => format!("{command} tries again"),
        };
        let serves = match cause {
            Cause::Swap | Cause::RollBack => "serves since",
            // It was never away.
            Cause::Refused | Cause::Cancelled => "still serves after",
        };
        let cause = cause.words();
        Some(format!("file wants {wanted}, {serving} {serves} {cause} of report {report}; {next}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_700_000_000);

    fn with(wanted: &str, serving: &str, cause: Cause) -> Standing {
        let mut standing = Standing::new(wanted);
        let asked = if cause == Cause::Swap { serving } else { wanted };
        standing.moved(asked, serving, Override { cause, report: 12, since: NOW });
        standing
    }

    #[test]
    fn a_change_of_active_asks_for_a_swap_and_nothing_else_does() {
        let mut standing = Standing::new("blue");
        assert_eq!(standing.reloaded("blue"), Wish::Nothing);
        assert_eq!(standing.reloaded("green"), Wish::Swap("green".to_owned()));
        assert_eq!(standing.serving, "blue", "a wish moves no traffic");
        assert_eq!(standing.reloaded("green"), Wish::Nothing, "it is on its way");
    }

    #[test]
    fn a_rollback_stands_until_the_file_changes() {
        let mut standing = with("green", "blue", Cause::RollBack);
        let words = "file wants green, blue serves since the rollback of report 12; \
                     `tidegate swap shop green` tries again";
        assert_eq!(standing.explain("shop", None).as_deref(), Some(words));
        let again = "file wants green, blue serves since the rollback of report 12; swap 13 is on its \
                     way there";
        assert_eq!(standing.explain("shop", Some(13)).as_deref(), Some(again));
        assert_eq!(standing.reloaded("green"), Wish::Overridden);
        assert_eq!(standing.reloaded("red"), Wish::Swap("red".to_owned()));
        assert_eq!(standing.override_, None);
    }

    #[test]
    fn an_override_ends_where_file_and_state_agree() {
        let mut changed = with("green", "blue", Cause::RollBack);
        assert_eq!(changed.reloaded("blue"), Wish::Nothing);
        assert_eq!(changed.override_, None);
        let mut again = with("green", "blue", Cause::RollBack);
        again.moved("green", "green", Override { cause: Cause::Swap, report: 13, since: NOW });
        assert_eq!(again, Standing::new("green"));
    }

    #[test]
    fn a_swap_by_hand_leaves_an_override_too() {
        let standing = with("blue", "green", Cause::Swap);
        let words = "file wants blue, green serves since the swap of report 12; \
                     `tidegate swap shop blue` goes there, or set active = \"green\" in the file";
        assert_eq!(standing.explain("shop", None).as_deref(), Some(words));
    }

    #[test]
    fn a_swap_to_a_third_version_that_fails_leaves_the_override_as_it_was() {
        let mut standing = with("blue", "green", Cause::Swap);
        let before = standing.clone();
        standing.moved("red", "green", Override { cause: Cause::RollBack, report: 13, since: NOW });
        assert_eq!(standing, before);
        let mut again = with("green", "blue", Cause::RollBack);
        again.moved("green", "blue", Override { cause: Cause::Refused, report: 13, since: NOW });
        assert_eq!(again.override_.unwrap().report, 13, "the latest try");
    }

    #[test]
    fn what_served_serves_after_a_restart() {
        let kept = with("green", "blue", Cause::RollBack);
        let (standing, warning) = Standing::at_start(Some(kept.clone()), "green", |_| true);
        assert_eq!((standing, warning), (kept, None));
        assert_eq!(Standing::at_start(None, "blue", |_| true), (Standing::new("blue"), None));
    }

    #[test]
    fn a_file_that_changed_meanwhile_wins_with_a_warning() {
        let kept = with("green", "blue", Cause::RollBack);
        let (standing, warning) = Standing::at_start(Some(kept.clone()), "red", |_| true);
        assert_eq!(standing, Standing::new("red"));
        let words = "blue served before the restart, but the file wants red now: red serves, \
                     without a gate and a watch";
        assert_eq!(warning.as_deref(), Some(words));
        let (standing, warning) = Standing::at_start(Some(kept.clone()), "blue", |_| true);
        assert_eq!((standing, warning), (Standing::new("blue"), None), "nothing changes");
        let (standing, warning) = Standing::at_start(Some(kept), "green", |name| name != "blue");
        assert_eq!(standing, Standing::new("green"));
        assert!(warning.is_some());
    }

    #[test]
    fn labels_lead_back() {
        for cause in [Cause::Swap, Cause::RollBack, Cause::Refused, Cause::Cancelled] {
            assert_eq!(Cause::from_label(cause.label()), Some(cause));
        }
        assert_eq!(Cause::from_label("other"), None);
    }
}
