//! Which value is used.

use super::{Context, ContextFile, ContextName};
use crate::failure::Failure;
use std::{fmt, path::PathBuf};

/// What was given for the connection, and by what.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    /// `--endpoint`, `--cert`, `--key-file`, `--ca`.
    pub(crate) options: Context,
    /// `--context`.
    pub(crate) option: Option<ContextName>,
    /// `PORTCULLIS_ENDPOINT`, `PORTCULLIS_CERT`, `PORTCULLIS_KEY_FILE`, `PORTCULLIS_CA`.
    pub(crate) variables: Context,
    /// `PORTCULLIS_CONTEXT`.
    pub(crate) variable: Option<ContextName>,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    Option,
    Variable,
    Context(ContextName),
}

/// The values that are used, each with its origin.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Chosen {
    pub(crate) context: Option<ContextName>,
    pub(crate) endpoint: Option<(portcullis_client::Endpoint, Origin)>,
    pub(crate) cert: Option<(PathBuf, Origin)>,
    pub(crate) key_file: Option<(PathBuf, Origin)>,
    pub(crate) ca: Option<(PathBuf, Origin)>,
}

impl Sources {
    /// Chooses each value by itself: an option before everything, a context that an option names before the environment, and
    /// the environment before the context that a variable or the file names. The file is read only if something is wanting.
    pub(crate) fn choose(&self) -> Result<Chosen, Failure> {
        if !self.needs_file() {
            return Ok(self.among(None));
        }
        let named = self.option.as_ref().or(self.variable.as_ref());
        let file = match named {
            Some(_) => ContextFile::require()?,
            None => match ContextFile::find() {
                Some(file) => file,
                None => return Ok(self.among(None)),
            },
        };
        let contexts = file.read()?;
        let context = match named.or(contexts.current.as_ref()) {
            Some(name) => Some((name, contexts.named(name, &file)?)),
            None => None,
        };
        Ok(self.among(context))
    }

    /// Whether a context was asked for, or options and environment do not say all that a connection needs.
    fn needs_file(&self) -> bool {
        let endpoint = self.options.endpoint.as_ref().or(self.variables.endpoint.as_ref());
        let both = |part: fn(&Context) -> bool| part(&self.options) || part(&self.variables);
        let is_complete = endpoint.is_some_and(|endpoint| {
            endpoint.to_string().starts_with("unix:")
                || (both(|context| context.cert.is_some())
                    && both(|context| context.key_file.is_some())
                    && both(|context| context.ca.is_some()))
        });
        self.option.is_some() || !is_complete
    }

    fn among(&self, context: Option<(&ContextName, &Context)>) -> Chosen {
        let nothing = Context::default();
        let values = context.map_or(&nothing, |(_, values)| values);
        let from_context = context.map(|(name, _)| Origin::Context(name.clone()));
        let from_context = from_context.unwrap_or(Origin::Variable);
        let mut ranked = vec![(&self.options, Origin::Option)];
        if self.option.is_some() {
            ranked.push((values, from_context));
            ranked.push((&self.variables, Origin::Variable));
        } else {
            ranked.push((&self.variables, Origin::Variable));
            ranked.push((values, from_context));
        }
        Chosen {
            context: context.map(|(name, _)| name.clone()),
            endpoint: first(&ranked, |values| values.endpoint.clone()),
            cert: first(&ranked, |values| values.cert.clone()),
            key_file: first(&ranked, |values| values.key_file.clone()),
            ca: first(&ranked, |values| values.ca.clone()),
        }
    }
}

impl Origin {
    /// The word in JSON.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Option => "option",
            Self::Variable => "environment",
            Self::Context(_) => "context",
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Option => f.write_str("the command line"),
            Self::Variable => f.write_str("the environment"),
            Self::Context(name) => write!(f, "context {name}"),
        }
    }
}

fn first<T>(ranked: &[(&Context, Origin)], value: impl Fn(&Context) -> Option<T>) -> Option<(T, Origin)> {
    ranked
        .iter()
        .find_map(|(values, origin)| value(values).map(|value| (value, origin.clone())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ContextName {
        text.parse().expect("a name")
    }

    fn at(endpoint: &str, cert: Option<&str>) -> Context {
        Context {
            endpoint: Some(endpoint.parse().expect("an endpoint")),
            cert: cert.map(PathBuf::from),
            ..Context::default()
        }
    }

    fn chosen(sources: &Sources, context: Option<(&ContextName, &Context)>) -> (Option<String>, Option<Origin>) {
        let chosen = sources.among(context);
        let (endpoint, origin) = chosen.endpoint.unzip();
        (endpoint.map(|endpoint| endpoint.to_string()), origin)
    }

    #[test]
    fn the_closer_to_the_command_the_more_it_counts() {
        let in_file = at("unix:/file", Some("file.pem"));
        let prod = name("prod");
        let context = Some((&prod, &in_file));
        let mut sources = Sources::default();
        assert_eq!(
            chosen(&sources, context),
            (Some("unix:/file".into()), Some(Origin::Context(prod.clone())))
        );
        sources.variables = at("unix:/variable", None);
        assert_eq!(
            chosen(&sources, context),
            (Some("unix:/variable".into()), Some(Origin::Variable))
        );
        sources.option = Some(prod.clone());
        assert_eq!(
            chosen(&sources, context),
            (Some("unix:/file".into()), Some(Origin::Context(prod.clone())))
        );
        sources.options = at("unix:/option", None);
        assert_eq!(
            chosen(&sources, context),
            (Some("unix:/option".into()), Some(Origin::Option))
        );
        // What the options leave open still comes from the context.
        assert_eq!(
            sources.among(context).cert,
            Some(("file.pem".into(), Origin::Context(prod)))
        );
    }

    #[test]
    fn the_file_is_not_read_where_nothing_is_wanting() {
        let mut sources = Sources {
            variables: at("unix:/variable", None),
            ..Sources::default()
        };
        assert!(!sources.needs_file());
        sources.variables = at("https://gateway.example:1", Some("me.pem"));
        assert!(sources.needs_file());
        sources.options.key_file = Some("me.key".into());
        sources.options.ca = Some("ca.pem".into());
        assert!(!sources.needs_file());
        sources.option = Some(name("prod"));
        assert!(sources.needs_file());
    }
}
