//! The report: the transcript for people, as one page of HTML that is made to be printed and signed, and as Markdown.

mod view;

use crate::{environment::Environment, script::Script, transcript::Line};
use minijinja::{AutoEscape, Environment as Templates, syntax::SyntaxConfig, value::Serde};
use view::View;

/// What a report is made of. The same transcript gives the same report.
pub struct Report(View);

impl Report {
    /// Of a transcript. Fails where it does not begin as one.
    pub fn new(script: &Script, environment: &Environment, lines: &[Line]) -> Result<Self, String> {
        View::new(script, environment, lines).map(Self)
    }

    /// One page that needs nothing else: no script, no style, no picture from elsewhere.
    pub fn html(&self) -> Result<String, String> {
        self.render(include_str!("report.html.jinja"), AutoEscape::Html)
    }

    /// The same as Markdown.
    pub fn markdown(&self) -> Result<String, String> {
        self.render(include_str!("report.md.jinja"), AutoEscape::None)
    }

    fn render(&self, template: &'static str, escaping: AutoEscape) -> Result<String, String> {
        let mut templates = Templates::new();
        templates.set_auto_escape_callback(move |_| escaping.clone());
        let mut syntax = SyntaxConfig::builder();
        syntax.trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(true);
        templates.set_syntax(syntax.build().map_err(|error| error.to_string())?);
        templates.add_filter("md", markdown_text);
        let rendered = templates
            .template_from_str(template)
            .and_then(|template| template.render(Serde(&self.0)));
        rendered.map_err(|error| format!("the report cannot be made: {error}"))
    }
}

/// A text that Markdown shows as it is: people wrote it, and it must not become markup.
fn markdown_text(text: String) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(
            c,
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '#' | '|' | '!' | '~' | '&'
        ) {
            shown.push('\\');
        }
        shown.push(c);
    }
    shown
}
