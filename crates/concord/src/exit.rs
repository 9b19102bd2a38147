//! What the process says when it ends: four exit codes, and which error means which.
//! Nothing here prints.

use concord_engine::error::{Class, Code, Error};
use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All is well.
    Fine,
    /// It did not work out, or what was looked at is not as it should be (both sides differ).
    Failure,
    /// What the person wrote or asked is wrong; nothing was touched.
    BadInput,
    /// A system, a file or a port is not as it must be.
    Environment,
}

impl Exit {
    /// The exit that an error means.
    pub fn of(error: &Error) -> Exit {
        Exit::of_code(error.code)
    }

    /// The exit that an error of this code means, whichever command meets it.
    pub fn of_code(code: Code) -> Exit {
        match (code.class(), code) {
            (Class::BadInput, _) => Exit::BadInput,
            (
                _,
                Code::ControlFailed | Code::FileUnusable | Code::PortTaken | Code::DemoServerFailed | Code::DemoSimulatorMissing,
            ) => Exit::Environment,
            // What a configuration refers to (a secret), a system, or the store is not as it must be.
            (_, code) if matches!(code.number() / 1000, 1 | 2 | 4) => Exit::Environment,
            _ => Exit::Failure,
        }
    }

    /// The exit of a command that met several of them: what has to be written anew decides before what has to be put right
    /// elsewhere, and that before what merely did not work out.
    pub fn worst(exits: impl IntoIterator<Item = Exit>) -> Exit {
        let order = [Exit::Fine, Exit::Failure, Exit::Environment, Exit::BadInput];
        let rank = |exit: &Exit| order.iter().position(|known| known == exit);
        exits.into_iter().max_by_key(rank).unwrap_or(Exit::Fine)
    }

    /// The number that the shell sees.
    pub fn number(self) -> u8 {
        match self {
            Exit::Fine => 0,
            Exit::Failure => 1,
            Exit::BadInput => 2,
            Exit::Environment => 3,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.number())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_the_exit_of_its_kind() {
        let exits = [
            (Code::ConfigSyntax, Exit::BadInput),
            (Code::UnknownSync, Exit::BadInput),
            (Code::Unreachable, Exit::Environment),
            (Code::StoreFailed, Exit::Environment),
            (Code::Internal, Exit::Failure),
            (Code::TargetRejected, Exit::Failure),
        ];
        for (code, exit) in exits {
            assert_eq!(Exit::of(&Error::new(code, "x")), exit, "{code}");
        }
    }

    #[test]
    fn the_worst_of_several_is_what_a_person_has_to_do_first() {
        assert_eq!(Exit::worst([]), Exit::Fine);
        assert_eq!(Exit::worst([Exit::Fine, Exit::Failure]), Exit::Failure);
        assert_eq!(Exit::worst([Exit::Failure, Exit::Environment, Exit::Fine]), Exit::Environment);
        assert_eq!(Exit::worst([Exit::Environment, Exit::BadInput, Exit::Failure]), Exit::BadInput);
    }

    #[test]
    fn the_shell_sees_four_numbers() {
        assert_eq!([Exit::Fine, Exit::Failure, Exit::BadInput, Exit::Environment].map(Exit::number), [0, 1, 2, 3]);
    }
}
