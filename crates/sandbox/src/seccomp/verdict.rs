//! What is answered to a call: an action, or a look at its arguments first.

/// What the kernel does with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Carries it out.
    Allow,
    /// Refuses it with this error.
    Refuse(Refusal),
    /// Ends the process with SIGSYS.
    Kill,
}

/// Errors that the filter gives. Their numbers are the same on every machine served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The call exists and is closed (EPERM).
    NotPermitted,
    /// As if the kernel had never heard of it, so that programs fall back (ENOSYS).
    NoSuchCall,
    /// The socket family is closed (EAFNOSUPPORT).
    NoSuchFamily,
    /// The protocol within a family is closed (EPROTONOSUPPORT).
    NoSuchProtocol,
}

pub(super) const ALLOW: Verdict = Verdict::Answer(Action::Allow);
pub(super) const EPERM: Verdict = Verdict::Answer(Action::Refuse(Refusal::NotPermitted));
pub(super) const ENOSYS: Verdict = Verdict::Answer(Action::Refuse(Refusal::NoSuchCall));
pub(super) const EAFNOSUPPORT: Verdict = Verdict::Answer(Action::Refuse(Refusal::NoSuchFamily));
pub(super) const EPROTONOSUPPORT: Verdict = Verdict::Answer(Action::Refuse(Refusal::NoSuchProtocol));

/// The answer to one call, as a tree over its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Whatever the arguments.
    Answer(Action),
    /// By one argument.
    Look(Look),
}

/// A look at the low 32 bits of one argument.
///
/// Every parameter that is compared is an `int` or `unsigned int` in the kernel, or is cut to one: high bits
/// that a 64-bit program sets are ignored there, so they must be ignored here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Look {
    /// Which argument, 0 to 5.
    pub(super) argument: u8,
    /// Which of its bits count.
    pub(super) mask: u32,
    /// Answers by value of these bits; each value stands once.
    pub(super) arms: Vec<(u32, Verdict)>,
    /// The answer to every other value.
    pub(super) otherwise: Box<Verdict>,
}

impl Verdict {
    /// A look at all 32 bits of an argument.
    pub(super) fn by_value(argument: u8, arms: Vec<(u32, Verdict)>, otherwise: Verdict) -> Verdict {
        Verdict::by_bits(argument, u32::MAX, arms, otherwise)
    }

    /// A look at some bits of an argument.
    pub(super) fn by_bits(argument: u8, mask: u32, arms: Vec<(u32, Verdict)>, otherwise: Verdict) -> Verdict {
        Verdict::Look(Look { argument, mask, arms, otherwise: Box::new(otherwise) })
    }

    /// `same` for each of some values.
    pub(super) fn each(values: &[u32], same: &Verdict) -> Vec<(u32, Verdict)> {
        values.iter().map(|value| (*value, same.clone())).collect()
    }

    /// The action for these arguments.
    pub(super) fn decide(&self, arguments: &[u64; 6]) -> Action {
        match self {
            Verdict::Answer(action) => *action,
            Verdict::Look(look) => {
                let low =
                    arguments.get(usize::from(look.argument)).map_or(0, |value| (value & 0xffff_ffff) as u32);
                let seen = low & look.mask;
                let arm = look.arms.iter().find(|arm| arm.0 == seen);
                arm.map_or(&*look.otherwise, |arm| &arm.1).decide(arguments)
            }
        }
    }
}
