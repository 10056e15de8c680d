//! Author and message of a published revision.

/// Options of every verb that publishes a revision.
#[derive(Debug, Clone, clap::Args)]
pub struct Wording {
    /// Reason, for the log
    #[arg(
        short,
        long,
        default_value = "",
        value_name = "TEXT",
        hide_default_value = true
    )]
    pub message: String,
    /// Author, for the log; by default the user who runs the program
    #[arg(long, value_name = "NAME")]
    pub author: Option<String>,
}

impl Wording {
    /// The author: as given, or the user of this session.
    pub fn author(&self) -> String {
        let author = self.author.clone().unwrap_or_else(user);
        author
            .chars()
            .filter(|c| !c.is_control())
            .take(64)
            .collect()
    }
}

/// The user of this session.
pub(crate) fn user() -> String {
    let names = ["SUDO_USER", "USER", "LOGNAME"];
    let name = names.iter().find_map(|name| std::env::var(name).ok());
    name.unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()))
}
