//! The page of an action: its effect, its dry run, and the button that starts it.

use askama::Template;
use bakery::publish::Preview;

use super::Answer;
use crate::tree;
use crate::web::{Frame, Visitor, html};

/// A field of the form.
pub(crate) struct Field {
    /// The name in the form.
    pub(crate) name: &'static str,
    /// The label, translated.
    pub(crate) label: String,
    /// The present value.
    pub(crate) value: String,
    /// The choices; none: a text.
    pub(crate) choices: Vec<(String, String)>,
    /// True if it may not be empty.
    pub(crate) is_required: bool,
}

impl Field {
    /// A line of text.
    pub(crate) fn text(name: &'static str, label: &str, value: &str) -> Field {
        Field {
            name,
            label: label.to_owned(),
            value: value.to_owned(),
            choices: Vec::new(),
            is_required: false,
        }
    }

    /// The same field, which may not be empty.
    pub(crate) fn required(self) -> Field {
        Field {
            is_required: true,
            ..self
        }
    }

    /// A choice of values, each with its text.
    pub(crate) fn choice(
        name: &'static str,
        label: &str,
        value: &str,
        choices: Vec<(String, String)>,
    ) -> Field {
        Field {
            choices,
            ..Field::text(name, label, value)
        }
    }
}

/// An action that waits for the button.
pub(crate) struct Action {
    /// The title, translated.
    pub(crate) title: String,
    /// Sentences about it.
    pub(crate) lead: Vec<String>,
    /// The same action as a command.
    pub(crate) command: String,
    /// The path that starts the action.
    pub(crate) to: String,
    /// The path of the dry run with other values; empty: none.
    pub(crate) again: String,
    /// Fields that are not shown.
    pub(crate) hidden: Vec<(&'static str, String)>,
    /// Fields that change the dry run.
    pub(crate) settings: Vec<Field>,
    /// Fields of the form.
    pub(crate) fields: Vec<Field>,
    /// The dry run: lines, one for each thing that would change.
    pub(crate) lines: Vec<String>,
    /// The dry run of a revision.
    pub(crate) preview: Option<Preview>,
    /// The reason why the action is not possible now.
    pub(crate) problem: String,
    /// The text of the button, translated.
    pub(crate) verb: String,
    /// True if it deletes something.
    pub(crate) is_dangerous: bool,
    /// The page before.
    pub(crate) back: String,
}

impl Action {
    /// An action without fields and dry run.
    pub(crate) fn new(title: &str, to: &str, back: &str) -> Action {
        Action {
            title: title.to_owned(),
            lead: Vec::new(),
            command: String::new(),
            to: to.to_owned(),
            again: String::new(),
            hidden: Vec::new(),
            settings: Vec::new(),
            fields: Vec::new(),
            lines: Vec::new(),
            preview: None,
            problem: String::new(),
            verb: title.to_owned(),
            is_dangerous: false,
            back: back.to_owned(),
        }
    }
}

#[derive(Template)]
#[template(path = "action.html")]
struct ActionPage {
    s: Frame,
    a: Action,
    tree: String,
}

/// The page of an action.
///
/// # Errors
/// The template fails.
pub(crate) fn page(visitor: &Visitor, action: Action) -> Answer {
    let tree = action
        .preview
        .as_ref()
        .map(|preview| tree::plain(&preview.changes, visitor.language));
    html(&ActionPage {
        s: visitor.frame(&action.title),
        tree: tree.unwrap_or_default(),
        a: action,
    })
}
