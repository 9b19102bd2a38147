//! `concord secret`: keeps a secret, encrypted, in the store. The value comes from standard input and is never shown.

use super::Context;
use crate::answers::Said;
use crate::control::Ask;
use crate::exit::Exit;
use crate::secrets;
use clap::{Args, Subcommand};
use concord_engine::config::SecretText;
use concord_engine::error::{Code, Error, Result};
use std::io::{IsTerminal, Read};
use std::process::{Command, Stdio};

/// Keep a secret, encrypted, in the store.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  concord secret set crm_password < password.txt")]
pub struct Secret {
    #[command(subcommand)]
    command: SecretCommand,
}

#[derive(Debug, Subcommand)]
enum SecretCommand {
    /// Keep the secret that standard input gives, under a name that {"secret": "NAME"} refers to.
    #[command(after_help = "Example:\n  concord secret set crm_password < password.txt")]
    Set {
        /// The name.
        name: String,
        /// The key of the secrets that are kept is lost: keep this one with the present key all the same. The others have to
        /// be given again.
        #[arg(long)]
        new_key: bool,
    },
}

/// The longest secret, in bytes: a private key with its chain fits.
const SECRET_BYTES_MAX: u64 = 64 << 10;

/// Runs the command.
pub async fn run(secret: &Secret, context: &Context) -> Result<Exit> {
    let SecretCommand::Set { name, new_key } = &secret.command;
    let value = read_value(name, context)?;
    let folder = context.folder(None);
    concord_engine::store::sqlite::make_folder(&folder).map_err(|error| {
        Error::new(Code::FileUnusable, "the store's folder cannot be made").at(folder.display().to_string()).because(error)
    })?;
    let sealed = secrets::seal_for(&folder, name, &value)?;
    let said: Said = context.ask(&Ask::KeepSecret { name: name.clone(), sealed, new_key: *new_key }).await?;
    if context.terminal.json {
        context.terminal.document(&said)
    } else {
        context.terminal.line(&said.said)
    }
    Ok(Exit::Fine)
}

/// Reads the secret, without showing it where it is typed.
fn read_value(name: &str, context: &Context) -> Result<SecretText> {
    let is_typed = std::io::stdin().is_terminal();
    let mut text = String::new();
    let read = if is_typed {
        context.terminal.remark(&format!("type the value of `{name}` and press Enter:"));
        echo(false);
        let read = std::io::stdin().read_line(&mut text);
        echo(true);
        read
    } else {
        std::io::stdin().lock().take(SECRET_BYTES_MAX).read_to_string(&mut text)
    };
    read.map_err(|error| Error::new(Code::ArgumentWrong, "the value cannot be read from standard input").because(error))?;
    let value = text.strip_suffix('\n').unwrap_or(&text);
    let value = value.strip_suffix('\r').unwrap_or(value);
    if value.is_empty() {
        return Err(Error::new(Code::ArgumentWrong, "the value of a secret cannot be empty"));
    }
    Ok(SecretText::new(value))
}

/// Shows or hides what is typed. Where that is not possible the value is seen by whoever looks, as with any command.
fn echo(shown: bool) {
    let _ = Command::new("stty").arg(if shown { "echo" } else { "-echo" }).stdin(Stdio::inherit()).status();
}
