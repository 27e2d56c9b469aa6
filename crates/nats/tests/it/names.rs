//! The server's own subject mapping agrees about partitions.

use futures_util::StreamExt;
use tapline_nats::{InstanceName, Partitions};

use crate::server::Server;

#[tokio::test]
async fn the_partition_is_that_of_the_servers_subject_mapping() {
    let mapping = r#"mappings { "in.*": "out.{{partition(16,1)}}.{{wildcard(1)}}" }"#;
    let Some(server) = Server::start_with(mapping) else {
        return;
    };
    let client = async_nats::connect(server.url()).await.unwrap();
    let mut mapped = client.subscribe("out.>").await.unwrap();
    for n in 0..200 {
        let name = InstanceName::new(&format!("Shop_{n}-{}", "x".repeat(n % 40))).unwrap();
        client
            .publish(format!("in.{name}"), "".into())
            .await
            .unwrap();
        let message = mapped.next().await.unwrap();
        let partition = Partitions::DEFAULT.of(&name);
        assert_eq!(*message.subject, *format!("out.{partition}.{name}"));
    }
}
