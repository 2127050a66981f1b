//! An S3 server inside this process, on a folder, for tests and for the demo.
//!
//! It listens on loopback alone, checks signatures, and keeps each object as a file, so that a fault
//! can be injected into what it serves by changing a file. It is s3s-fs: no versions, no storage
//! classes, no policies.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper::http::Extensions;
use hyper::server::conn::http1;
use hyper::{HeaderMap, Method, Uri};
use hyper_util::rt::TokioIo;
use s3s::access::S3Access;
use s3s::auth::SimpleAuth;
use s3s::dto::{ListObjectsInput, ListObjectsV2Input};
use s3s::route::S3Route;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, S3Request, S3Response, S3Result};
use s3s_fs::FileSystem;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A running server; dropping it stops it.
#[derive(Debug)]
pub struct S3Server {
    address: SocketAddr,
    root: PathBuf,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl S3Server {
    /// Starts a server for the buckets in `root`, on a free port of loopback, with one pair of keys.
    pub fn start(root: &Path, access_key: &str, secret_key: &str) -> Result<Self> {
        let files = FileSystem::new(root)
            .map_err(|error| anyhow::anyhow!("failed to serve {}: {error:?}", root.display()))?;
        let mut service = S3ServiceBuilder::new(files);
        service.set_auth(SimpleAuth::from_single(access_key, secret_key));
        service.set_access(EmptyDelimiter);
        service.set_route(Uploads(root.to_owned()));
        let service = service.build();

        let listener =
            std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("failed to listen on loopback")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = watch::channel(false);
        let thread = std::thread::Builder::new().name("s3-server".to_owned()).spawn(move || {
            // It only fails to register its socket; clients then find nobody there.
            let _ = runtime.block_on(serve(listener, service, stopped));
            runtime.shutdown_timeout(Duration::from_secs(1));
        })?;
        Ok(Self { address, root: root.to_owned(), stop, thread: Some(thread) })
    }

    /// Its address: `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The objects of a bucket whose uploads in parts were begun, and neither completed nor given up.
    pub fn uploads(&self, bucket: &str) -> Result<Vec<String>> {
        let begun = begun(&self.root, bucket).context("failed to list uploads")?;
        Ok(begun.into_iter().map(|upload| upload.key).collect())
    }

    /// Makes a bucket, which is a folder, and returns that folder. It may be there already.
    pub fn create_bucket(&self, name: &str) -> Result<PathBuf> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        ensure!(!name.is_empty() && name.chars().all(plain), "{name:?} is no name for a bucket");
        let folder = self.root.join(name);
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("failed to create bucket {}", folder.display()))?;
        Ok(folder)
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // It panicked if this is an error; there is nothing left to stop then.
            let _ = thread.join();
        }
    }
}

/// restic asks with an empty delimiter for a listing without one. s3s-fs would put every object behind
/// it, so it is taken away. (Written without the macro of `async_trait`, which nothing else needs.)
struct EmptyDelimiter;

type Checked<'a> = Pin<Box<dyn Future<Output = S3Result<()>> + Send + 'a>>;

impl S3Access for EmptyDelimiter {
    fn list_objects<'a: 'c, 'b: 'c, 'c>(
        &'a self,
        request: &'b mut S3Request<ListObjectsInput>,
    ) -> Checked<'c> {
        request.input.delimiter.take_if(|delimiter| delimiter.is_empty());
        Box::pin(std::future::ready(Ok(())))
    }

    fn list_objects_v2<'a: 'c, 'b: 'c, 'c>(
        &'a self,
        request: &'b mut S3Request<ListObjectsV2Input>,
    ) -> Checked<'c> {
        request.input.delimiter.take_if(|delimiter| delimiter.is_empty());
        Box::pin(std::future::ready(Ok(())))
    }
}

/// An upload in parts.
struct Begun {
    key: String,
    id: String,
    since: jiff::Timestamp,
}

/// The uploads of a bucket, as s3s-fs notes them: `.bucket-B.object-K.upload-ID.metadata.json`, with the names in
/// base64, and `.upload-ID.json` until they are completed or given up.
fn begun(root: &Path, bucket: &str) -> std::io::Result<Vec<Begun>> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(root)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let noted = || {
            let (names, id) = name.strip_suffix(".metadata.json")?.split_once(".upload-")?;
            let (of, key) = names.strip_prefix(".bucket-")?.split_once(".object-")?;
            let text = |encoded| String::from_utf8(URL_SAFE_NO_PAD.decode(encoded).ok()?).ok();
            (text(of)? == bucket).then_some((text(key)?, id.to_owned()))
        };
        let Some((key, id)) = noted() else { continue };
        if root.join(format!(".upload-{id}.json")).exists() {
            let since = entry.metadata()?.modified()?;
            let since = jiff::Timestamp::try_from(since).map_err(std::io::Error::other)?;
            all.push(Begun { key, id, since });
        }
    }
    all.sort_by(|a, b| (&a.key, &a.id).cmp(&(&b.key, &b.id)));
    Ok(all)
}

/// s3s-fs takes uploads in parts and does not list them.
struct Uploads(PathBuf);

impl S3Route for Uploads {
    fn is_match(&self, method: &Method, uri: &Uri, _: &HeaderMap, _: &mut Extensions) -> bool {
        let parameters = uri.query().unwrap_or_default().split('&');
        let bucket = uri.path().trim_matches('/');
        let mut parameters = parameters.map(|one| one.trim_end_matches('='));
        method == Method::GET && !bucket.contains('/') && parameters.any(|one| one == "uploads")
    }

    fn call<'a: 'c, 'c>(
        &'a self,
        request: S3Request<Body>,
    ) -> Pin<Box<dyn Future<Output = S3Result<S3Response<Body>>> + Send + 'c>> {
        Box::pin(std::future::ready(self.list(&request.uri)))
    }
}

impl Uploads {
    fn list(&self, uri: &Uri) -> S3Result<S3Response<Body>> {
        let bucket = uri.path().trim_matches('/');
        let asked = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
        let prefix = asked.into_iter().find(|(name, _)| name == "prefix");
        let prefix = prefix.map_or(String::new(), |(_, prefix)| prefix.into_owned());
        let begun = begun(&self.0, bucket).map_err(s3s::S3Error::internal_error)?;
        let of = |upload: &Begun| {
            let key = upload.key.replace('&', "&amp;").replace('<', "&lt;");
            format!(
                "<Upload><Key>{key}</Key><UploadId>{}</UploadId><Initiated>{:.3}</Initiated></Upload>",
                upload.id, upload.since
            )
        };
        let uploads: String = begun.iter().filter(|upload| upload.key.starts_with(&prefix)).map(of).collect();
        let xml = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListMultipartUploadsResult><Bucket>{bucket}</Bucket><IsTruncated>false</IsTruncated>{uploads}</ListMultipartUploadsResult>"
        );
        Ok(S3Response::new(Body::from(xml)))
    }
}

async fn serve(
    listener: std::net::TcpListener,
    service: S3Service,
    mut stopped: watch::Receiver<bool>,
) -> Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.wait_for(|stop| *stop) => break,
        };
        let Ok((socket, _)) = accepted else {
            // Out of file descriptors, for example: some connection will end.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let (service, mut stopped) = (service.clone(), stopped.clone());
        connections.spawn(async move {
            let mut connection =
                std::pin::pin!(http1::Builder::new().serve_connection(TokioIo::new(socket), service));
            tokio::select! {
                _ = connection.as_mut() => return,
                _ = stopped.wait_for(|stop| *stop) => connection.as_mut().graceful_shutdown(),
            }
            let _ = connection.await;
        });
    }
    // Requests that are being answered may end.
    let _ = tokio::time::timeout(Duration::from_secs(2), async {
        while connections.join_next().await.is_some() {}
    })
    .await;
    Ok(())
}
