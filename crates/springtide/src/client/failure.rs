//! How a command ends when it does not succeed: what is printed, and the exit code.

use api::client::Error;
use api::http::Fault;

/// Why a command did not succeed.
#[derive(Debug)]
pub enum Failure {
    /// The command line asks for something that cannot be.
    Usage(String),
    /// The manifests are wrong.
    Faults(Vec<Fault>),
    /// The server could not be asked, or refused.
    Server(Error),
    /// An operation failed, something is short, an answer was no.
    Refused(String),
    /// Ctrl-C ended the wait; what was begun goes on at the server.
    Interrupted(String),
    /// Something on this machine failed.
    Local(String),
    /// The reader of the output is gone (`springtide get … | head`): no fault of anyone.
    OutputClosed,
}

impl Failure {
    /// The exit code.
    pub fn code(&self) -> u8 {
        match self {
            Self::OutputClosed => 0,
            Self::Usage(_) | Self::Faults(_) => 2,
            Self::Server(Error::Unreachable { .. }) => 3,
            Self::Server(Error::Refused(problem, _)) if problem.faults.iter().any(|fault| !fault.file.is_empty()) => 2,
            Self::Server(_) | Self::Refused(_) | Self::Local(_) => 1,
            // 128 + SIGINT, as a shell reports it.
            Self::Interrupted(_) => 130,
        }
    }

    /// Prints it on stderr.
    pub fn report(&self) {
        for line in self.lines() {
            eprintln!("{line}");
        }
    }

    fn lines(&self) -> Vec<String> {
        let said = |text: &str| vec![format!("springtide: {text}")];
        match self {
            Self::OutputClosed => Vec::new(),
            Self::Usage(text) | Self::Refused(text) | Self::Interrupted(text) | Self::Local(text) => said(text),
            Self::Faults(faults) => with_count(faults),
            Self::Server(Error::Refused(problem, _)) if problem.faults.is_empty() => said(&problem.message),
            Self::Server(Error::Refused(problem, _)) => with_count(&problem.faults),
            Self::Server(error) => said(&error.to_string()),
        }
    }
}

fn with_count(faults: &[Fault]) -> Vec<String> {
    let mut lines: Vec<String> = faults.iter().map(place).collect();
    let plural = if faults.len() == 1 { "" } else { "s" };
    lines.push(format!("springtide: {} fault{plural}; nothing was changed", faults.len()));
    lines
}

fn place(fault: &Fault) -> String {
    let (file, line, field, message) = (fault.file.clone(), fault.line, fault.field.clone(), fault.message.clone());
    model::Fault { file, line, field, message }.to_string()
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Server(error)
    }
}

/// A fault as the wire has it.
pub fn on_wire(fault: model::Fault) -> Fault {
    Fault { file: fault.file, line: fault.line, field: fault.field, message: fault.message }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::http::Problem;

    fn refused(code: &str, faults: Vec<Fault>) -> Failure {
        let problem = Problem { code: code.to_owned(), message: "no".to_owned(), faults };
        Failure::Server(Error::Refused(problem, reqwest::StatusCode::CONFLICT))
    }

    #[test]
    fn codes_tell_refusals_from_wrong_manifests() {
        let fault = |file: &str| Fault { file: file.to_owned(), line: 0, field: String::new(), message: String::new() };
        assert_eq!(refused("refused", Vec::new()).code(), 1);
        assert_eq!(refused("invalid_manifest", vec![fault("a.yaml")]).code(), 2);
        assert_eq!(refused("invalid_manifest", vec![fault("")]).code(), 1, "a refused delete has no manifest");
        assert_eq!(Failure::Usage(String::new()).code(), 2);
        assert_eq!(Failure::OutputClosed.code(), 0);
    }

    #[test]
    fn faults_are_printed_with_their_place() {
        let fault = Fault { file: "a.yaml".to_owned(), line: 3, field: "name".to_owned(), message: "wrong".to_owned() };
        let lines = refused("invalid_manifest", vec![fault]).lines();
        assert_eq!(lines, ["a.yaml:3: name: wrong", "springtide: 1 fault; nothing was changed"]);
    }
}
