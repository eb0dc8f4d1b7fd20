#!/usr/bin/env bash
# Kafka's scripts, as far as the compose file calls them: by the name they are called with.
set -euo pipefail
case "$(basename "$0")" in
  kafka-storage.sh) main=kafka.tools.StorageTool ;;
  kafka-server-start.sh) main=kafka.Kafka ;;
  *) main=$1; shift ;;
esac
# As Kafka's own do, they take these lists of options from the environment.
# shellcheck disable=SC2086
exec java ${KAFKA_HEAP_OPTS:-} ${KAFKA_JVM_PERFORMANCE_OPTS:-} ${KAFKA_LOG4J_OPTS:-} \
  -cp '/opt/kafka/libs/*' "$main" "$@"
