use super::*;

/// Every kind of store this machine can make without a server. S3 runs the same suite in
/// `tests/history/s3.rs`.
fn stores() -> Vec<(Store, Option<tempfile::TempDir>)> {
    let dir = tempfile::tempdir().unwrap();
    let local = Store::create(dir.path().join("store").to_str().unwrap()).unwrap();
    vec![(local, Some(dir)), (Store::memory().unwrap(), None)]
}

#[test]
fn every_store_passes_the_conformance_suite() {
    for (store, _dir) in stores() {
        conformance::run(&store);
    }
}

#[test]
fn a_place_that_is_no_store_is_refused_with_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let error = Store::open(dir.path().to_str().unwrap())
        .unwrap_err()
        .to_string();
    assert!(error.contains("init"), "{error}");
    assert!(Store::open("/nonexistent/store").is_err());
    assert!(
        Store::open("ftp://host/x")
            .unwrap_err()
            .to_string()
            .contains("s3://")
    );
    assert!(
        Store::open("s3://")
            .unwrap_err()
            .to_string()
            .contains("no bucket")
    );
}

#[test]
fn a_file_of_another_file_system_is_copied_into_the_store() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let file = dir.path().join("layer");
    std::fs::write(&file, b"content").unwrap();
    let home = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let store = Store::create(home.path().join("store").to_str().unwrap()).unwrap();
    let key = Key::boot(&Digest::of(b"content"));
    store.put_file(&key, &file).unwrap();
    assert_eq!(
        std::fs::read(store.file(&key).unwrap()).unwrap(),
        b"content"
    );
    let staged = std::fs::read_dir(home.path().join("store/staging"))
        .unwrap()
        .count();
    assert_eq!(staged, 0, "nothing is left behind");
}

#[test]
fn a_damaged_layer_is_not_opened() {
    let (store, _dir) = stores().remove(0);
    let key = Key::layer(&Digest::of(b"x"));
    store
        .create_object(&key, Bytes::from_static(b"no layer at all"))
        .unwrap();
    let error = store.open_layer(&key, &Digest::of(b"x")).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
}

#[test]
fn a_sweep_waits_for_publishers_and_they_for_it() {
    for (store, _dir) in stores() {
        let publishing = guard::publish(&store).unwrap();
        let second = guard::publish(&store).unwrap();
        std::thread::scope(|scope| {
            let sweeper = scope.spawn(|| {
                let guard = guard::sweep(&store).unwrap();
                (guard.is_some(), std::time::Instant::now())
            });
            std::thread::sleep(std::time::Duration::from_millis(300));
            let released = std::time::Instant::now();
            drop((publishing, second));
            let (swept, at) = sweeper.join().unwrap();
            assert!(
                swept && at >= released,
                "the sweep began while somebody published"
            );
        });
        let sweeping = guard::sweep(&store).unwrap();
        assert!(sweeping.is_some());
        assert!(
            guard::sweep(&store).unwrap().is_none(),
            "one sweep at a time"
        );
        std::thread::scope(|scope| {
            let publisher = scope.spawn(|| {
                drop(guard::publish(&store).unwrap());
                std::time::Instant::now()
            });
            std::thread::sleep(std::time::Duration::from_millis(300));
            let released = std::time::Instant::now();
            drop(sweeping);
            assert!(
                publisher.join().unwrap() >= released,
                "published in the middle of a sweep"
            );
        });
        assert!(
            store
                .list(wire::paths::Class::Lock.directory())
                .unwrap()
                .is_empty()
        );
    }
}

#[test]
fn a_flag_of_a_dead_process_stops_nobody() {
    let (store, _dir) = stores().remove(0);
    let mut child = std::process::Command::new("true").spawn().unwrap();
    let process = child.id();
    child.wait().unwrap();
    let living = guard::publish(&store).unwrap();
    let flag = store.list("locks/publish").unwrap().remove(0).key;
    let flag = store.require(&flag, 1024).unwrap();
    drop(living);
    let flag = String::from_utf8(flag.to_vec()).unwrap();
    let dead = flag.replace(&std::process::id().to_string(), &process.to_string());
    let key = Key::lock(wire::paths::LockKind::Publish, "0");
    store.create_object(&key, Bytes::from(dead)).unwrap();
    assert!(guard::sweep(&store).unwrap().is_some());
    assert_eq!(store.len(&key).unwrap(), None, "it was taken down");
}

#[test]
fn a_store_that_overwrites_is_refused() {
    let honest = Store::memory().unwrap();
    let lying = Store {
        objects: Arc::new(Overwriting(InMemory::new())),
        ..honest
    };
    let error = check::require_sound(&lying).unwrap_err().to_string();
    assert!(
        error.contains("it was created again") && error.contains("of 8 won"),
        "{error}"
    );
}

/// A store that behaves like Garage: accepts every conditional write as a plain one.
#[derive(Debug)]
struct Overwriting(InMemory);

impl std::fmt::Display for Overwriting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("overwriting")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Overwriting {
    async fn put_opts(
        &self,
        location: &object_store::path::Path,
        payload: object_store::PutPayload,
        _options: PutOptions,
    ) -> object_store::Result<object_store::PutResult> {
        self.0.put(location, payload).await
    }

    async fn put_multipart_opts(
        &self,
        location: &object_store::path::Path,
        options: object_store::PutMultipartOptions,
    ) -> object_store::Result<Box<dyn object_store::MultipartUpload>> {
        self.0.put_multipart_opts(location, options).await
    }

    async fn get_opts(
        &self,
        location: &object_store::path::Path,
        options: object_store::GetOptions,
    ) -> object_store::Result<object_store::GetResult> {
        self.0.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: futures::stream::BoxStream<
            'static,
            object_store::Result<object_store::path::Path>,
        >,
    ) -> futures::stream::BoxStream<'static, object_store::Result<object_store::path::Path>> {
        self.0.delete_stream(locations)
    }

    fn list(
        &self,
        prefix: Option<&object_store::path::Path>,
    ) -> futures::stream::BoxStream<'static, object_store::Result<object_store::ObjectMeta>> {
        self.0.list(prefix)
    }

    async fn list_with_delimiter(
        &self,
        prefix: Option<&object_store::path::Path>,
    ) -> object_store::Result<object_store::ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(
        &self,
        from: &object_store::path::Path,
        to: &object_store::path::Path,
        options: object_store::CopyOptions,
    ) -> object_store::Result<()> {
        self.0.copy_opts(from, to, options).await
    }
}
