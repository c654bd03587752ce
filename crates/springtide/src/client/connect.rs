//! Which server a command talks to.

use super::failure::Failure;
use api::client::{Address, Client};
use std::path::{Path, PathBuf};

/// Socket of a `springtide dev` in this folder.
const DEV_SOCKET: &str = "./.springtide/springtide.sock";
/// Socket of this machine's server.
const SYSTEM_SOCKET: &str = "/run/springtide/springtide.sock";

/// Where the server is.
#[derive(clap::Args, Debug, Clone, Default)]
pub struct Connect {
    /// Server: path of its socket, or http://127.0.0.1:PORT [default: ./.springtide/springtide.sock, else /run/springtide/springtide.sock]
    #[arg(long, env = "SPRINGTIDE_SERVER", value_name = "SOCKET|URL", hide_env_values = true)]
    pub server: Option<String>,
    /// File with the API token, for an http:// server (DATA/api-token of the server)
    #[arg(long, env = "SPRINGTIDE_TOKEN_FILE", value_name = "FILE", hide_env_values = true)]
    pub token_file: Option<PathBuf>,
}

impl Connect {
    /// A client of that server.
    pub fn client(&self) -> Result<Client, Failure> {
        Ok(Client::new(&self.address()?))
    }

    /// Its address.
    pub fn address(&self) -> Result<Address, Failure> {
        match self.server.as_deref() {
            Some(url) if url.starts_with("http://") => Ok(Address::Http { url: url.to_owned(), token: self.token()? }),
            Some(url) if url.contains("://") => Err(Failure::Usage(format!(
                "{url} is no address of a server; give a socket's path or http://127.0.0.1:PORT"
            ))),
            Some(path) => Ok(Address::Socket(path.into())),
            None => Ok(Address::Socket(found())),
        }
    }

    fn token(&self) -> Result<String, Failure> {
        let Some(path) = &self.token_file else {
            let message = "an http:// server wants a token; give --token-file (DATA/api-token of the server)";
            return Err(Failure::Usage(message.to_owned()));
        };
        let text = std::fs::read_to_string(path);
        let text =
            text.map_err(|error| Failure::Usage(format!("cannot read the token {}: {error}", path.display())))?;
        Ok(text.trim().to_owned())
    }
}

/// The first socket that is there; the last one when none is, for the message.
fn found() -> PathBuf {
    let dev = Path::new(DEV_SOCKET);
    if dev.exists() { dev.to_owned() } else { SYSTEM_SOCKET.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(server: &str, token_file: Option<PathBuf>) -> Result<Address, Failure> {
        Connect { server: Some(server.to_owned()), token_file }.address()
    }

    #[test]
    fn an_address_is_a_socket_or_a_url_with_a_token() {
        assert_eq!(address("/tmp/x.sock", None).unwrap(), Address::Socket("/tmp/x.sock".into()));
        assert_eq!(address("http://127.0.0.1:1", None).unwrap_err().code(), 2);
        assert_eq!(address("https://127.0.0.1:1", None).unwrap_err().code(), 2);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "secret\n").unwrap();
        let wanted = Address::Http { url: "http://127.0.0.1:1".to_owned(), token: "secret".to_owned() };
        assert_eq!(address("http://127.0.0.1:1", Some(file)).unwrap(), wanted);
    }
}
