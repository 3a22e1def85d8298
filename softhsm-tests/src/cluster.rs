//! A directory with a development cluster.

use crate::{
    faulty,
    identity::Authority,
    program::{run, temporary_directory, workspace_binary},
};
use portcullis_client::Credentials;
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};
use tempfile::TempDir;

/// The members of a development cluster.
pub const MEMBERS: [&str; 3] = ["a", "b", "c"];

/// A development cluster of its own in a directory of its own, which is removed with it.
///
/// Making one generates RSA keys and takes a while, so one is made for each test process and read into memory; a test's
/// cluster is a copy with the paths changed. Copies share the domain and the certificates.
pub struct TestCluster {
    directory: TempDir,
}

impl TestCluster {
    /// A copy of this process's cluster.
    pub fn new() -> Self {
        static SNAPSHOT: OnceLock<Snapshot> = OnceLock::new();
        let snapshot = SNAPSHOT.get_or_init(|| Snapshot::take(Self::with_another_domain().path()));
        let directory = temporary_directory();
        snapshot.write(directory.path());
        Self { directory }
    }

    /// A cluster with a domain and certificates that no other has.
    pub fn with_another_domain() -> Self {
        let directory = temporary_directory();
        let portcullisd = workspace_binary("portcullisd");
        let state = directory.path().to_owned();
        run(Command::new(portcullisd)
            .args(["dev", "--listen", "127.0.0.1:0", "--prepare-only", "--state"])
            .arg(state))
        .succeeded();
        Self { directory }
    }

    /// The cluster that was made in a directory.
    pub(crate) fn made_in(directory: TempDir) -> Self {
        Self { directory }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The configuration.
    pub fn config_file(&self) -> PathBuf {
        self.path().join("portcullis.toml")
    }

    /// Changes the configuration.
    pub fn edit_config(&self, edit: impl FnOnce(&mut toml::Table)) {
        let file = self.config_file();
        let text = fs::read_to_string(&file).expect("the configuration");
        let mut table: toml::Table = text.parse().expect("the configuration is TOML");
        edit(&mut table);
        fs::write(&file, table.to_string()).expect("the configuration can be written");
    }

    /// Adds a grant to the policy: the settings of a `[[policy.grant]]`.
    pub fn grant(&self, settings: &str) {
        let grant: toml::Table = settings.parse().expect("a grant is TOML");
        self.edit_config(|config| {
            let policy = config["policy"].as_table_mut().expect("[policy]");
            let grants = policy.entry("grant").or_insert_with(|| toml::Value::Array(Vec::new()));
            grants.as_array_mut().expect("[[policy.grant]]").push(grant.into());
        });
    }

    /// The cluster's file of policies in Cedar.
    pub fn policy_file(&self) -> PathBuf {
        self.path().join("policy.cedar")
    }

    /// Adds policies to that file.
    pub fn add_policies(&self, text: &str) {
        let file = self.policy_file();
        let policies = fs::read_to_string(&file).expect("the policies");
        fs::write(&file, format!("{policies}\n{text}")).expect("the policies can be written");
    }

    /// Changes one member's table in the configuration.
    pub fn edit_member(&self, member: &str, edit: impl FnOnce(&mut toml::Table)) {
        self.edit_config(|config| {
            let members = config["member"].as_array_mut().expect("[[member]]");
            let found = members.iter_mut().filter_map(toml::Value::as_table_mut);
            edit(
                found
                    .into_iter()
                    .find(|one| one["name"].as_str() == Some(member))
                    .expect("the member"),
            );
        });
    }

    /// Changes the mTLS listener's table in the configuration.
    pub fn edit_tls(&self, edit: impl FnOnce(&mut toml::Table)) {
        self.edit_config(|config| edit(config["listen"]["tls"].as_table_mut().expect("[listen.tls]")));
    }

    /// Lets the gateway look for changed files again and again.
    pub fn reload_often(&self) {
        self.edit_config(|config| {
            let reload = toml::Table::from_iter([("interval".to_owned(), "50ms".into())]);
            config.insert("reload".to_owned(), reload.into());
        });
    }

    /// Puts a file into its place in one step, as a careful operator does; returns its path.
    pub fn place(&self, file: &str, content: &str) -> PathBuf {
        let path = self.path().join(file);
        let new = path.with_extension("new");
        fs::write(&new, content).expect("a new file");
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).expect("its permissions");
        fs::rename(&new, &path).expect("the file in its place");
        path
    }

    /// Sets `cluster.{setting}` in the configuration.
    pub fn set_in_cluster(&self, setting: &str, value: &str) {
        self.edit_config(|config| {
            let section = config.entry("cluster").or_insert_with(|| toml::Table::new().into());
            section
                .as_table_mut()
                .expect("[cluster]")
                .insert(setting.to_owned(), value.into());
        });
    }

    /// Sets `telemetry.{setting}` in the configuration.
    pub fn set_in_telemetry(&self, setting: &str, value: impl Into<toml::Value>) {
        self.edit_config(|config| {
            let section = config.entry("telemetry").or_insert_with(|| toml::Table::new().into());
            section
                .as_table_mut()
                .expect("[telemetry]")
                .insert(setting.to_owned(), value.into());
        });
    }

    /// Lets the gateway serve its metrics on a socket in this directory; returns its path.
    pub fn serve_metrics(&self) -> PathBuf {
        let socket = self.path().join("metrics.sock");
        self.set_in_telemetry("prometheus_listen", format!("unix:{}", socket.display()));
        socket
    }

    /// The PKCS#11 module of the members: the real one, also where a faulty one is before it.
    pub fn module(&self) -> PathBuf {
        let text = fs::read_to_string(self.config_file()).expect("the configuration");
        let table: toml::Table = text.parse().expect("the configuration is TOML");
        let first = &table["member"][0];
        let module = PathBuf::from(first["module"].as_str().expect("the module's path"));
        let member = first["name"].as_str().expect("the member's name");
        faulty::module_behind(&module, &self.member_directory(member)).unwrap_or(module)
    }

    /// The environment of a member's workers.
    pub fn member_environment(&self, member: &str) -> BTreeMap<String, String> {
        let text = fs::read_to_string(self.config_file()).expect("the configuration");
        let table: toml::Table = text.parse().expect("the configuration is TOML");
        let members = table["member"].as_array().expect("[[member]]");
        let found = members.iter().find(|one| one["name"].as_str() == Some(member));
        let environment = found.expect("the member").get("environment");
        let environment = environment.and_then(toml::Value::as_table).into_iter().flatten();
        let text = |value: &toml::Value| value.as_str().expect("a text").to_owned();
        environment.map(|(name, value)| (name.clone(), text(value))).collect()
    }

    /// A member's directory.
    pub fn member_directory(&self, member: &str) -> PathBuf {
        self.path().join("members").join(member)
    }

    /// A member's SoftHSM2 configuration.
    pub fn softhsm_conf(&self, member: &str) -> PathBuf {
        self.member_directory(member).join("softhsm2.conf")
    }

    /// A member's user PIN.
    pub fn user_pin(&self, member: &str) -> String {
        self.pin(member, "user.pin")
    }

    /// A member's security officer's PIN.
    pub fn so_pin(&self, member: &str) -> String {
        self.pin(member, "so.pin")
    }

    fn pin(&self, member: &str, file: &str) -> String {
        let text = fs::read_to_string(self.member_directory(member).join(file)).expect("the PIN file");
        text.trim_end_matches('\n').to_owned()
    }

    /// Puts another cluster's member in the place of this one's.
    pub fn take_member_from(&self, other: &Self, member: &str) {
        fs::remove_dir_all(self.member_directory(member)).expect("the member's directory can be removed");
        let mut snapshot = Snapshot::take(other.path());
        let inside = Path::new("members").join(member);
        snapshot.entries.retain(|entry| entry.path.starts_with(&inside));
        snapshot.write(self.path());
    }

    /// The database's file.
    pub fn database_file(&self) -> PathBuf {
        self.path().join("db/portcullis.sqlite")
    }

    /// The audit log's file.
    pub fn audit_file(&self) -> PathBuf {
        self.path().join("audit.jsonl")
    }

    /// A file of the cluster's certificates and keys.
    pub fn pki(&self, file: &str) -> PathBuf {
        self.path().join("pki").join(file)
    }

    /// The files of the developer, who may do everything.
    pub fn developer(&self) -> Credentials {
        Credentials::new(self.pki("developer.pem"), self.pki("developer.key"), self.pki("ca.pem"))
    }

    /// The authority whose clients the gateway accepts.
    pub fn authority(&self) -> Authority {
        Authority::from_files(&self.pki("ca.pem"), &self.pki("ca.key"))
    }
}

impl Default for TestCluster {
    fn default() -> Self {
        Self::new()
    }
}

/// A directory's content in memory.
struct Snapshot {
    from: PathBuf,
    entries: Vec<Entry>,
}

struct Entry {
    path: PathBuf,
    mode: u32,
    /// `None` for a directory.
    content: Option<Vec<u8>>,
}

impl Snapshot {
    fn take(from: &Path) -> Self {
        let mut snapshot = Self {
            from: from.to_owned(),
            entries: Vec::new(),
        };
        snapshot.add(Path::new(""));
        snapshot
    }

    fn add(&mut self, directory: &Path) {
        for entry in fs::read_dir(self.from.join(directory)).expect("a readable directory") {
            let entry = entry.expect("a directory entry");
            let metadata = entry.metadata().expect("its metadata");
            let path = directory.join(entry.file_name());
            let mode = metadata.permissions().mode() & 0o7777;
            if metadata.is_dir() {
                self.entries.push(Entry {
                    path: path.clone(),
                    mode,
                    content: None,
                });
                self.add(&path);
            } else if metadata.is_file() {
                let content = Some(fs::read(entry.path()).expect("a readable file"));
                self.entries.push(Entry { path, mode, content });
            }
        }
    }

    /// Writes everything below another directory; texts that name the old one name the new one.
    fn write(&self, to: &Path) {
        let old = self.from.to_str().expect("a path in UTF-8");
        let new = to.to_str().expect("a path in UTF-8");
        for Entry { path, mode, content } in &self.entries {
            let path = to.join(path);
            match content {
                None => fs::create_dir_all(&path).expect("a new directory"),
                Some(bytes) => match std::str::from_utf8(bytes) {
                    Ok(text) => fs::write(&path, text.replace(old, new)).expect("a new file"),
                    Err(_) => fs::write(&path, bytes).expect("a new file"),
                },
            }
            fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).expect("its permissions");
        }
    }
}
