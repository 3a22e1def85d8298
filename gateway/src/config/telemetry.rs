//! What the gateway tells of itself, and to whom: `[telemetry]`.

use super::document::{Problems, Section};
use http::{Uri, uri::Scheme};
use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

/// Where traces and metrics go.
#[derive(Debug, Clone)]
pub struct TelemetrySettings {
    /// The collector, if traces and metrics are exported.
    pub otlp: Option<OtlpSettings>,
    /// How often metrics are exported.
    pub otlp_interval: Duration,
    /// The share of requests that are traced, of those whose caller does not say.
    pub trace_sample_ratio: f64,
    /// Where Prometheus reads metrics, if it does.
    pub prometheus: Option<PrometheusAddress>,
    /// `service.name`.
    pub service_name: String,
    /// Further attributes of the resource.
    pub resource: BTreeMap<String, String>,
}

/// An OTLP collector that speaks gRPC.
#[derive(Debug, Clone)]
pub struct OtlpSettings {
    /// Its URL.
    pub endpoint: Uri,
    /// Over TLS: whom to trust and who the gateway is.
    pub tls: Option<OtlpTlsSettings>,
}

/// TLS towards the collector.
#[derive(Debug, Clone)]
pub struct OtlpTlsSettings {
    /// The authorities that may vouch for the collector, PEM.
    pub authorities: PathBuf,
    /// The gateway's certificate chain and private key, PEM, if the collector asks for them.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Where metrics can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PrometheusAddress {
    /// Plain HTTP on TCP.
    Tcp(SocketAddr),
    /// Plain HTTP on a Unix socket with these permissions.
    Unix(PathBuf, u32),
}

impl fmt::Display for PrometheusAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(formatter, "{address}"),
            Self::Unix(path, _) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

impl Default for TelemetrySettings {
    fn default() -> Self {
        Self {
            otlp: None,
            otlp_interval: Duration::from_secs(15),
            trace_sample_ratio: 0.01,
            prometheus: None,
            service_name: "portcullis".to_owned(),
            resource: BTreeMap::new(),
        }
    }
}

/// Reads the section; nothing in it is required.
pub(super) fn read_telemetry(root: &mut Section<'_>, problems: &mut Problems<'_>) -> TelemetrySettings {
    let default = TelemetrySettings::default();
    let mut section = root.section("telemetry", problems);
    let otlp = read_otlp(&mut section, problems);
    let otlp_interval = section.duration("otlp_interval", problems, default.otlp_interval);
    let ratio = section.optional("trace_sample_ratio", problems, "a number from 0 to 1", |value| {
        let number: f64 = match (value.as_float(), value.as_integer()) {
            (Some(float), _) => float.as_str().parse().ok()?,
            (None, Some(integer)) => integer.as_str().parse().ok()?,
            (None, None) => return None,
        };
        (0.0..=1.0).contains(&number).then_some(number)
    });
    let prometheus = read_prometheus(&mut section, problems);
    let service_name = section.text("service_name", problems);
    let resource = section.optional(
        "resource",
        problems,
        "a table of texts, such as { \"deployment.environment.name\" = \"production\" }",
        |value| {
            let entries = value.as_table()?.iter();
            entries
                .map(|(key, value)| Some((key.get_ref().to_string(), value.get_ref().as_str()?.to_owned())))
                .collect()
        },
    );
    section.finish(problems);
    TelemetrySettings {
        otlp,
        otlp_interval,
        trace_sample_ratio: ratio.unwrap_or(default.trace_sample_ratio),
        prometheus,
        service_name: service_name.unwrap_or(default.service_name),
        resource: resource.unwrap_or_default(),
    }
}

fn read_otlp(section: &mut Section<'_>, problems: &mut Problems<'_>) -> Option<OtlpSettings> {
    let at = section.at();
    let endpoint = section.optional(
        "otlp_endpoint",
        problems,
        "the URL of a collector that speaks OTLP over gRPC, such as \"https://collector.example.org:4317\"",
        |value| parse_endpoint(value.as_str()?),
    );
    let authorities = section.path("otlp_authorities", problems);
    let certificate = section.path("otlp_certificate", problems);
    let private_key = section.path("otlp_private_key", problems);
    let allow_plaintext = section.truth("otlp_allow_plaintext", problems, false);
    let identity = match (certificate, private_key) {
        (Some(certificate), Some(private_key)) => Some((certificate, private_key)),
        (None, None) => None,
        _ => {
            let message = "comes with telemetry.otlp_private_key or not at all";
            problems.note(at, section.setting("otlp_certificate"), message);
            None
        }
    };
    let endpoint = endpoint?;
    if endpoint.scheme() == Some(&Scheme::HTTPS) {
        let Some(authorities) = authorities else {
            let message = "is missing; expected the path of the authorities that vouch for the collector, PEM";
            problems.note(at, section.setting("otlp_authorities"), message);
            return None;
        };
        let tls = Some(OtlpTlsSettings { authorities, identity });
        return Some(OtlpSettings { endpoint, tls });
    }
    if authorities.is_some() || identity.is_some() {
        let message = "is http://, which takes no certificates; expected https://";
        problems.note(at, section.setting("otlp_endpoint"), message);
    }
    if !allow_plaintext && !is_loopback(endpoint.host().unwrap_or_default()) {
        let message = "names another host without TLS; expected https://, or otlp_allow_plaintext = true";
        problems.note(at, section.setting("otlp_endpoint"), message);
    }
    Some(OtlpSettings { endpoint, tls: None })
}

fn read_prometheus(section: &mut Section<'_>, problems: &mut Problems<'_>) -> Option<PrometheusAddress> {
    let at = section.at();
    let base = problems.base().to_owned();
    let expected = "an address and port such as \"127.0.0.1:9464\", or \"unix:\" and a path";
    let address = section.optional("prometheus_listen", problems, expected, |value| {
        parse_listen(value.as_str()?, &base)
    });
    let mode = section.mode("prometheus_mode", problems, 0o600);
    let allow_remote = section.truth("prometheus_allow_remote", problems, false);
    match address? {
        PrometheusAddress::Unix(path, _) => Some(PrometheusAddress::Unix(path, mode)),
        PrometheusAddress::Tcp(address) => {
            if !address.ip().is_loopback() && !allow_remote {
                let message = format!(
                    "{address} can be reached from other hosts, and metrics have no authentication; expected a loopback \
                     address or a Unix socket, or prometheus_allow_remote = true"
                );
                problems.note(at, section.setting("prometheus_listen"), message);
            }
            Some(PrometheusAddress::Tcp(address))
        }
    }
}

fn parse_endpoint(text: &str) -> Option<Uri> {
    let uri: Uri = text.parse().ok()?;
    let known = matches!(uri.scheme_str(), Some("http" | "https"));
    let bare = uri.path_and_query().is_none_or(|path| path.as_str() == "/");
    // Credentials in a URL would be shown wherever the URL is.
    let anonymous = uri
        .authority()
        .is_some_and(|authority| !authority.as_str().contains('@'));
    (known && bare && anonymous).then_some(uri)
}

fn parse_listen(text: &str, base: &Path) -> Option<PrometheusAddress> {
    match text.strip_prefix("unix:") {
        Some("") => None,
        // The permissions are a setting of their own.
        Some(path) => Some(PrometheusAddress::Unix(base.join(path), 0o600)),
        None => text.parse().ok().map(PrometheusAddress::Tcp),
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use toml::de::DeTable;

    fn read(text: &str) -> Result<TelemetrySettings, Vec<String>> {
        let text = format!("[telemetry]\n{text}");
        let mut problems = Problems::new(&text, Path::new("/etc/portcullis"));
        let table = DeTable::parse(&text).expect("TOML");
        let mut root = Section::new("", None, table.get_ref());
        let settings = read_telemetry(&mut root, &mut problems);
        match problems.into_found() {
            found if found.is_empty() => Ok(settings),
            found => Err(found.iter().map(ToString::to_string).collect()),
        }
    }

    #[test]
    fn plaintext_stays_on_this_host_unless_it_is_allowed_to_leave() {
        for host in ["127.0.0.1", "[::1]", "localhost", "127.9.9.9"] {
            assert!(
                read(&format!("otlp_endpoint = \"http://{host}:4317\"")).is_ok(),
                "{host}"
            );
        }
        let remote = "otlp_endpoint = \"http://collector.example.org:4317\"";
        assert!(read(remote).is_err_and(|problems| problems[0].contains("without TLS")));
        assert!(read(&format!("{remote}\notlp_allow_plaintext = true")).is_ok());
        assert!(read("otlp_endpoint = \"http://127.0.0.1.example.org:4317\"").is_err());
    }

    #[test]
    fn tls_needs_authorities_and_both_halves_of_an_identity() {
        let endpoint = "otlp_endpoint = \"https://collector.example.org:4317\"";
        assert!(read(endpoint).is_err_and(|problems| problems[0].contains("otlp_authorities")));
        let trusted = format!("{endpoint}\notlp_authorities = \"ca.pem\"");
        let tls = read(&trusted)
            .expect("valid")
            .otlp
            .and_then(|otlp| otlp.tls)
            .expect("TLS");
        assert_eq!(tls.authorities, Path::new("/etc/portcullis/ca.pem"));
        assert!(read(&format!("{trusted}\notlp_certificate = \"me.pem\"")).is_err());
        assert!(read("otlp_endpoint = \"http://127.0.0.1:4317\"\notlp_authorities = \"ca.pem\"").is_err());
        for wrong in [
            "collector:4317",
            "ftp://collector",
            "https://me:secret@collector",
            "http://[::1]/v1/traces",
        ] {
            assert!(read(&format!("otlp_endpoint = \"{wrong}\"")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn metrics_are_shown_to_this_host_unless_others_may_see_them() {
        let tcp = |text: &str| read(&format!("prometheus_listen = \"{text}\""));
        assert!(tcp("127.0.0.1:9464").is_ok() && tcp("[::1]:9464").is_ok());
        assert!(tcp("0.0.0.0:9464").is_err_and(|problems| problems[0].contains("no authentication")));
        assert!(read("prometheus_listen = \"0.0.0.0:9464\"\nprometheus_allow_remote = true").is_ok());
        let socket = read("prometheus_listen = \"unix:metrics.sock\"\nprometheus_mode = \"0660\"").expect("valid");
        let expected = PrometheusAddress::Unix("/etc/portcullis/metrics.sock".into(), 0o660);
        assert_eq!(socket.prometheus, Some(expected));
        assert!(tcp("9464").is_err() && tcp("unix:").is_err());
    }

    #[test]
    fn a_ratio_is_a_share() {
        let ratio = |text: &str| read(&format!("trace_sample_ratio = {text}")).map(|one| one.trace_sample_ratio);
        assert_eq!((ratio("0.5"), ratio("1"), ratio("0")), (Ok(0.5), Ok(1.0), Ok(0.0)));
        assert!(ratio("1.5").is_err() && ratio("-0.1").is_err() && ratio("\"half\"").is_err() && ratio("nan").is_err());
    }
}
