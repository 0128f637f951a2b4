//! Errors as the client understands them.
//!
//! It takes UNAVAILABLE and CANCELLED as signs of a dead plugin and waits for its end, so neither is
//! ever used; every other code only carries its text. A start that may succeed later says so in the
//! error's details.

use crate::face::{EngineError, StartError};
use crate::wire::{rpc, structs};
use prost::Message;
use tonic::{Code, Status};

const RECOVERABLE: &str = "type.googleapis.com/hashicorp.nomad.plugins.shared.structs.RecoverableError";

/// A plain failure. The text is what users read.
pub(crate) fn failed(error: impl std::fmt::Display) -> Status {
    Status::new(Code::Unknown, error.to_string())
}

/// A request that no sound client sends.
pub(crate) fn invalid(error: impl std::fmt::Display) -> Status {
    Status::new(Code::InvalidArgument, error.to_string())
}

impl From<EngineError> for Status {
    fn from(error: EngineError) -> Self {
        failed(error)
    }
}

impl From<StartError> for Status {
    fn from(error: StartError) -> Self {
        let detail = structs::RecoverableError { recoverable: error.recoverable };
        let any = prost_types::Any { type_url: RECOVERABLE.to_owned(), value: detail.encode_to_vec() };
        let code = Code::FailedPrecondition;
        let status = rpc::Status { code: code.into(), message: error.text.clone(), details: vec![any] };
        Self::with_details(code, error.text, status.encode_to_vec().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_error_tells_whether_to_try_again() {
        for recoverable in [true, false] {
            let status = Status::from(StartError { text: "no such file".into(), recoverable });
            assert_eq!((status.code(), status.message()), (Code::FailedPrecondition, "no such file"));
            let inner = rpc::Status::decode(status.details()).unwrap();
            assert_eq!((inner.code, inner.message.as_str()), (9, "no such file"));
            let detail = inner.details.first().unwrap();
            assert_eq!(detail.type_url, RECOVERABLE);
            assert_eq!(
                structs::RecoverableError::decode(detail.value.as_slice()).unwrap().recoverable,
                recoverable
            );
        }
    }
}
