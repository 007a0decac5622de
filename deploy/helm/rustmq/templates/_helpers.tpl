{{/* What objects are called. */}}
{{- define "rustmq.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains "rustmq" .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-rustmq" .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "rustmq.selector" -}}
app.kubernetes.io/name: rustmq
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "rustmq.labels" -}}
{{ include "rustmq.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "rustmq.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}{{ .repository }}@{{ .digest }}{{- else -}}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{- end -}}
{{- end -}}
{{- end -}}

{{- define "rustmq.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "rustmq.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{- define "rustmq.clusterName" -}}
{{- .Values.tls.clusterName | default (include "rustmq.fullname" .) -}}
{{- end -}}

{{- define "rustmq.tls" -}}{{- if ne .Values.tls.mode "none" -}}on{{- end -}}{{- end -}}

{{- define "rustmq.sasl" -}}{{- dig "security" "sasl" "mechanisms" "" .Values.config -}}{{- end -}}

{{/*
The StatefulSets, as JSON: {"pools": [...]}. Each has its component, its name, the values of its
pods, the id of its first node, and its nodes. A node's id is the number of its pod.
*/}}
{{- define "rustmq.pools" -}}
{{- $name := include "rustmq.fullname" . -}}
{{- $pools := list -}}
{{- if eq .Values.roles "combined" -}}
{{- $pools = list (dict "component" "node" "name" $name "values" .Values.nodes "first" 1 "controllers" (int .Values.nodes.controllers) "broker" true) -}}
{{- else -}}
{{- $pools = list
  (dict "component" "controller" "name" (printf "%s-controller" $name) "values" .Values.controllers "first" 1 "controllers" (int .Values.controllers.replicas) "broker" false)
  (dict "component" "broker" "name" (printf "%s-broker" $name) "values" .Values.brokers "first" (int .Values.brokers.firstId) "controllers" 0 "broker" true) -}}
{{- end -}}
{{- range $pool := $pools -}}
{{- $nodes := list -}}
{{- range $i := until (int $pool.values.replicas) -}}
{{- $id := add $pool.first $i -}}
{{- $controller := lt $i (int $pool.controllers) -}}
{{- $pod := printf "%s-%d" $pool.name $id -}}
{{- $roles := ternary "broker,controller,admin" (ternary "broker,admin" "controller,admin" $pool.broker) (and $pool.broker $controller) -}}
{{- $proved := ternary "broker,controller" (ternary "broker,admin" "controller" $pool.broker) (and $pool.broker $controller) -}}
{{- if eq $pool.component "broker" -}}{{- $roles = "broker" -}}{{- $proved = "broker" -}}{{- end -}}
{{- $nodes = append $nodes (dict "id" $id "pod" $pod "host" (printf "%s.%s-headless.%s.svc.%s" $pod $name $.Release.Namespace $.Values.clusterDomain) "roles" $roles "proved" $proved "broker" $pool.broker) -}}
{{- end -}}
{{- $_ := set $pool "nodes" $nodes -}}
{{- end -}}
{{- dict "pools" $pools | toJson -}}
{{- end -}}

{{/* The first controllers, as controller.peers names them. */}}
{{- define "rustmq.peers" -}}
{{- $pool := first (include "rustmq.pools" . | fromJson).pools -}}
{{- $name := include "rustmq.fullname" . -}}
{{- $peers := list -}}
{{- range $i := until (int $pool.controllers) -}}
{{- $id := add 1 $i -}}
{{- $peers = append $peers (printf "%d@%s-%d.%s-headless.%s.svc.%s" $id $pool.name $id $name $.Release.Namespace $.Values.clusterDomain) -}}
{{- end -}}
{{- join "," $peers -}}
{{- end -}}

{{/* Who may do everything. */}}
{{- define "rustmq.superUsers" -}}
{{- $all := .Values.superUsers -}}
{{- if and (eq .Values.tls.mode "cert-manager") .Values.tls.certManager.admin -}}
{{- $all = append $all (printf "CN=%s-admin" (include "rustmq.fullname" .)) -}}
{{- end -}}
{{- join ";" $all -}}
{{- end -}}

{{/* Where clients from outside dial a node: a dict with "root" and "id". */}}
{{- define "rustmq.externalHost" -}}
{{- required "external.host: name what clients outside are told to dial, with {id} for the node: kafka-{id}.example.com" .root.Values.external.host | replace "{id}" (toString .id) -}}
{{- end -}}

{{/*
The keys that the chart sets for a node, as JSON: a dict with "root" and "node".
*/}}
{{- define "rustmq.keys" -}}
{{- $v := .root.Values -}}
{{- $node := .node -}}
{{- $keys := dict
  "broker.id" (toString $node.id)
  "broker.roles" $node.roles
  "broker.data_dir" "/var/lib/rustmq/data"
  "network.bind" $v.bind
  "network.advertised_host" $node.host
  "controller.peers" (include "rustmq.peers" .root)
  "object_storage.url" (required "bucket.url: a cluster has one bucket that all pods reach: s3://name?region=…, gs://name, azblob://name" $v.bucket.url)
  "operations.graceful_shutdown_timeout" (printf "%ds" (int $v.shutdown.seconds))
  "operations.log_format" "json" -}}
{{- if $v.bucket.prefix -}}{{- $_ := set $keys "object_storage.prefix" $v.bucket.prefix -}}{{- end -}}
{{- if $v.allowInsecure -}}{{- $_ := set $keys "security.allow_insecure" "true" -}}{{- end -}}
{{- with include "rustmq.superUsers" .root -}}{{- $_ := set $keys "security.authorization.super_users" . -}}{{- end -}}
{{- if and $v.external.enabled $node.broker -}}
{{- $_ := set $keys "network.external.advertised_host" (include "rustmq.externalHost" (dict "root" .root "id" $node.id)) -}}
{{- $_ := set $keys "network.external.advertised_port" (ternary (toString (add (int $v.external.firstNodePort) (int $node.id))) (toString (int $v.external.port)) (eq $v.external.type "NodePort")) -}}
{{- end -}}
{{- if include "rustmq.tls" .root -}}
{{- $own := printf "/etc/rustmq/certs/node-%d" (int $node.id) -}}
{{- $_ := set $keys "network.tls" "on" -}}
{{- $_ := set $keys "network.http_tls" "on" -}}
{{- $_ := set $keys "security.tls.cert_file" (printf "%s.pem" $own) -}}
{{- $_ := set $keys "security.tls.key_file" (printf "%s.key" $own) -}}
{{- $_ := set $keys "security.tls.client_auth" $v.tls.clientAuth -}}
{{- $_ := set $keys "security.cluster.ca_file" "/etc/rustmq/certs/bundle.pem" -}}
{{- $_ := set $keys "security.cluster.cert_file" (printf "%s.pem" $own) -}}
{{- $_ := set $keys "security.cluster.key_file" (printf "%s.key" $own) -}}
{{- $crl := and (eq $v.tls.mode "secret") $v.tls.crl -}}
{{- if $crl -}}{{- $_ := set $keys "security.cluster.crl_file" "/etc/rustmq/certs/crl.pem" -}}{{- end -}}
{{- if ne $v.tls.clientAuth "none" -}}
{{- $_ := set $keys "security.tls.client_ca_file" "/etc/rustmq/certs/bundle.pem" -}}
{{- $_ := set $keys "security.tls.principal_mapping" $v.tls.principalMapping -}}
{{- if $crl -}}{{- $_ := set $keys "security.tls.crl_file" "/etc/rustmq/certs/crl.pem" -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson $keys -}}
{{- end -}}

{{/* Keys of .Values.config by their whole names, one "name = value" a line: a dict with "at" and "of". */}}
{{- define "rustmq.flat" -}}
{{- $at := .at -}}
{{- range $name, $value := .of -}}
{{- $key := ternary $name (printf "%s.%s" $at $name) (empty $at) -}}
{{- if kindIs "map" $value -}}
{{- include "rustmq.flat" (dict "at" $key "of" $value) -}}
{{- else -}}
{{- if kindIs "float64" $value -}}{{- $value = int64 $value -}}{{- end -}}
{{ $key }} = {{ toString $value | toRawJson }}
{{ end -}}
{{- end -}}
{{- end -}}

{{/* The file of a node: a dict with "root" and "node". */}}
{{- define "rustmq.file" -}}
{{- range $key, $value := include "rustmq.keys" . | fromJson -}}
{{ $key }} = {{ $value | toRawJson }}
{{ end -}}
{{- include "rustmq.flat" (dict "at" "" "of" .root.Values.config) -}}
{{- end -}}

{{/* Refuses values that do not go together. */}}
{{- define "rustmq.check" -}}
{{- $v := .Values -}}
{{- $proved := or (eq $v.tls.clientAuth "require") (include "rustmq.sasl" .) -}}
{{- if eq $v.tls.mode "none" -}}
{{- if not $v.allowInsecure -}}{{- fail "tls.mode: none leaves everything in the clear: set allowInsecure if the network is yours alone, or another mode" -}}{{- end -}}
{{- if include "rustmq.sasl" . -}}{{- fail "config.security.sasl.mechanisms: passwords and tokens need tls.mode: cert-manager or secret" -}}{{- end -}}
{{- else if not (or $proved $v.allowInsecure) -}}
{{- fail "tls.clientAuth: clients have to prove who they are: require, or set config.security.sasl.mechanisms" -}}
{{- end -}}
{{- if and (eq $v.tls.mode "secret") (not $v.tls.secretName) -}}{{- fail "tls.secretName: name the Secret with node-1.pem, node-1.key and so on, and bundle.pem" -}}{{- end -}}
{{- if and (eq $v.roles "combined") (gt (int $v.nodes.controllers) (int $v.nodes.replicas)) -}}{{- fail "nodes.controllers: there are fewer nodes than that" -}}{{- end -}}
{{- if and (eq $v.roles "separate") (le (int $v.brokers.firstId) (int $v.controllers.replicas)) -}}{{- fail "brokers.firstId: controllers have the ids below" -}}{{- end -}}
{{- range (include "rustmq.pools" . | fromJson).pools -}}
{{- if and (ne $v.tls.mode "none") (gt (int .values.replicas) (int $v.tls.maxNodes)) -}}{{- fail (printf "tls.maxNodes: %s has more pods than that" .name) -}}{{- end -}}
{{- end -}}
{{- if and (ne $v.workloadIdentity.provider "none") (not $v.workloadIdentity.identity) -}}{{- fail "workloadIdentity.identity: which?" -}}{{- end -}}
{{- end -}}
