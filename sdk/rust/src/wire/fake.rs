//! A broker of this process, for tests: as much of the protocol as producers and transactions ask of it.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{
    AddPartitionsToTxnResponse, ApiVersionsResponse, EndTxnRequest, EndTxnResponse, FindCoordinatorResponse,
    InitProducerIdResponse, MetadataResponse, ProduceResponse, RequestHeader, ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const PRODUCE: i16 = 0;
const METADATA: i16 = 3;
const FIND_COORDINATOR: i16 = 10;
const API_VERSIONS: i16 = 18;
const INIT_PRODUCER_ID: i16 = 22;
const ADD_PARTITIONS: i16 = 24;
const END: i16 = 26;
/// The one version that it has of each.
const VERSIONS: [(i16, i16); 7] = [
    (PRODUCE, 9),
    (METADATA, 12),
    (FIND_COORDINATOR, 4),
    (API_VERSIONS, 3),
    (INIT_PRODUCER_ID, 4),
    (ADD_PARTITIONS, 3),
    (END, 3),
];

/// What it answers to the end of a transaction, committed or not: an error code, or nothing, and the connection ends.
type Ended = Arc<dyn Fn(bool) -> Option<i16> + Send + Sync>;

/// What it answers to records of t/1: an error code, or nothing, and the connection ends.
type Produced = Arc<dyn Fn() -> Option<i16> + Send + Sync>;

/// Starts broker 1, which leads t/1, while nobody leads t/0, and coordinates all; its address.
pub(crate) async fn broker(ended: impl Fn(bool) -> Option<i16> + Send + Sync + 'static) -> String {
    start(Arc::new(ended), Arc::new(|| Some(0)), usize::MAX).await
}

/// Is [`broker`], but says itself what becomes of records.
pub(crate) async fn taking(produced: impl Fn() -> Option<i16> + Send + Sync + 'static) -> String {
    start(Arc::new(|_| None), Arc::new(produced), usize::MAX).await
}

/// Is [`broker`], but answers on its first connection alone, and refuses no other.
pub(crate) async fn deaf() -> String {
    start(Arc::new(|_| None), Arc::new(|| Some(0)), 1).await
}

async fn start(ended: Ended, produced: Produced, answered: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut unanswered = Vec::new();
        for n in 0.. {
            let Ok((socket, _)) = listener.accept().await else { return };
            if n < answered {
                tokio::spawn(serve(socket, port, ended.clone(), produced.clone()));
            } else {
                unanswered.push(socket);
            }
        }
    });
    format!("127.0.0.1:{port}")
}

fn name() -> TopicName {
    TopicName(StrBytes::from_static_str("t"))
}

fn host() -> StrBytes {
    StrBytes::from_static_str("127.0.0.1")
}

fn put<T: Encodable + HeaderVersion>(frame: &mut BytesMut, correlation: i32, answer: &T, version: i16) {
    let head = ResponseHeader::default().with_correlation_id(correlation);
    head.encode(frame, T::header_version(version)).unwrap();
    answer.encode(frame, version).unwrap();
}

async fn serve(mut socket: TcpStream, port: u16, ended: Ended, produced: Produced) -> std::io::Result<()> {
    loop {
        let mut asked = vec![0; socket.read_i32().await? as usize];
        socket.read_exact(&mut asked).await?;
        let mut asked = Bytes::from(asked);
        let head = RequestHeader::decode(&mut asked, 2).unwrap();
        let (id, version) = (head.correlation_id, head.request_api_version);
        let mut frame = BytesMut::new();
        match head.request_api_key {
            API_VERSIONS => {
                let of = |(key, v)| ApiVersion::default().with_api_key(key).with_min_version(v).with_max_version(v);
                let answer = ApiVersionsResponse::default().with_api_keys(VERSIONS.map(of).into());
                put(&mut frame, id, &answer, version);
            }
            METADATA => put(&mut frame, id, &metadata(port), version),
            FIND_COORDINATOR => {
                let found = Coordinator::default().with_node_id(1.into()).with_host(host()).with_port(port.into());
                put(&mut frame, id, &FindCoordinatorResponse::default().with_coordinators(vec![found]), version);
            }
            INIT_PRODUCER_ID => {
                put(&mut frame, id, &InitProducerIdResponse::default().with_producer_id(7.into()), version);
            }
            ADD_PARTITIONS => {
                let partition = AddPartitionsToTxnPartitionResult::default().with_partition_index(1);
                let topic = AddPartitionsToTxnTopicResult::default()
                    .with_name(name())
                    .with_results_by_partition(vec![partition]);
                let answer = AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(vec![topic]);
                put(&mut frame, id, &answer, version);
            }
            END => {
                let committed = EndTxnRequest::decode(&mut asked, version).unwrap().committed;
                let Some(code) = ended(committed) else { return Ok(()) };
                put(&mut frame, id, &EndTxnResponse::default().with_error_code(code), version);
            }
            _ => {
                let Some(code) = produced() else { return Ok(()) };
                let partition =
                    PartitionProduceResponse::default().with_index(1).with_base_offset(40).with_error_code(code);
                let topic = TopicProduceResponse::default().with_name(name()).with_partition_responses(vec![partition]);
                put(&mut frame, id, &ProduceResponse::default().with_responses(vec![topic]), version);
            }
        }
        let mut out = BytesMut::new();
        out.put_i32(frame.len() as i32);
        out.extend_from_slice(&frame);
        socket.write_all(&out).await?;
    }
}

fn metadata(port: u16) -> MetadataResponse {
    let broker = MetadataResponseBroker::default().with_node_id(1.into()).with_host(host()).with_port(port.into());
    let partition =
        |i, leader: i32| MetadataResponsePartition::default().with_partition_index(i).with_leader_id(leader.into());
    let topic = MetadataResponseTopic::default()
        .with_name(Some(name()))
        .with_partitions(vec![partition(0, -1), partition(1, 1)]);
    MetadataResponse::default().with_brokers(vec![broker]).with_topics(vec![topic])
}
