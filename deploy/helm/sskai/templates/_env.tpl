{{/* Settings that are no secrets, as a YAML map: the chart's, under the values' `settings` and the service's own.
Takes root and component; README.md lists where they differ from docker-compose.yaml. */}}
{{- define "sskai.settings" -}}
{{- $values := .root.Values }}
{{- $set := dict
  "SSKAI_HOST" "0.0.0.0"
  "SSKAI_PORT" "8000"
  "SSKAI_KAFKA_BOOTSTRAP" $values.kafka.bootstrap
  "SSKAI_KAFKA_SECURITY_PROTOCOL" $values.kafka.securityProtocol
  "SSKAI_OBJECTS_URL" $values.objects.url
  "SSKAI_OBJECTS_BUCKET" $values.objects.bucket
  "SSKAI_OBJECTS_REGION" $values.objects.region
  "SSKAI_GATEWAY_URL" (include "sskai.url" (dict "root" .root "component" "gateway"))
  "SSKAI_INFERENCE_URL" (include "sskai.url" (dict "root" .root "component" "inference"))
  "SSKAI_SCHEDULER_URL" (include "sskai.url" (dict "root" .root "component" "scheduler"))
  "SSKAI_MONITOR_URL" (include "sskai.url" (dict "root" .root "component" "monitor"))
  "SSKAI_OTLP_URL" (include "sskai.url" (dict "root" .root "component" "monitor"))
  "SSKAI_CLUSTER" "kubernetes"
  "SSKAI_MODELS_DIR" "/var/cache/sskai/models"
  "SSKAI_CACHE" "/var/cache/sskai"
}}
{{- if hasPrefix "SASL_" $values.kafka.securityProtocol }}
{{- $_ := set $set "SSKAI_KAFKA_SASL_MECHANISM" $values.kafka.saslMechanism }}
{{- end }}
{{- if not $values.objects.existingSecret }}
{{- $set = mergeOverwrite $set (dict "SSKAI_OBJECTS_ACCESS_KEY" "" "SSKAI_OBJECTS_SECRET_KEY" "") }}
{{- end }}
{{- if has .component (list "scheduler" "inference") }}
{{- $set = mergeOverwrite $set (dict
  "SSKAI_NAMESPACE" $values.jobs.namespace
  "SSKAI_OBJECTS_SECRET" $values.jobs.objectsSecret
  "SSKAI_KAFKA_SECRET" $values.jobs.kafkaSecret
  "SSKAI_KAFKA_CA_SECRET" $values.kafka.caSecret
  "SSKAI_MODELS_CLAIM" $values.jobs.modelsClaim
  "SSKAI_WORK_GIB" (toString $values.jobs.workGib)
  "SSKAI_SHM_GIB" (toString $values.jobs.shmGib)
  "SSKAI_PRIORITY_CLASS" $values.jobs.priorityClassName
  "SSKAI_UNSCHEDULABLE_SECONDS" (toString $values.jobs.unschedulableSeconds)
) }}
{{- end }}
{{- if eq .component "scheduler" }}
{{- $set = mergeOverwrite $set (dict
  "SSKAI_TRAINER_IMAGE" ($values.jobs.trainerImage | default (include "sskai.image" (dict "root" .root "stage" "trainer")))
  "SSKAI_SERVICE_ACCOUNT" $values.jobs.trainerAccount.name
) }}
{{- if $values.kueue.enabled }}
{{- $set = mergeOverwrite $set (dict
  "SSKAI_KUEUE_QUEUE" $values.kueue.localQueue
  "SSKAI_KUEUE_PRIORITY_CLASS" $values.kueue.priorityClass
) }}
{{- end }}
{{- end }}
{{- if eq .component "inference" }}
{{- $set = mergeOverwrite $set (dict
  "SSKAI_REPLICA_IMAGE" ($values.replicas.image | default (include "sskai.image" (dict "root" .root "stage" "inference")))
  "SSKAI_SERVICE_ACCOUNT" $values.replicas.account.name
) }}
{{- if not $values.replicas.enabled }}
{{- $_ := set $set "SSKAI_CLUSTER" "local" }}
{{- end }}
{{- end }}
{{- $own := dict }}
{{- with index $values.services .component }}{{ $own = .settings | default dict }}{{ end }}
{{- mergeOverwrite $set (deepCopy $values.settings) (deepCopy $own) | toYaml }}
{{- end }}

{{/* The list for `env` of a container: settings in the clear, secrets by reference. */}}
{{- define "sskai.env" -}}
{{- $values := .root.Values }}
{{- range $name, $value := include "sskai.settings" . | fromYaml }}
- {name: {{ $name }}, value: {{ $value | toString | quote }}}
{{- end }}
{{- if has .component (splitList " " (include "sskai.services" .root)) }}
- name: SSKAI_INSTANCE
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
{{- end }}
{{- $secrets := dict }}
{{- if ne .component "topics" }}
{{- $_ := set $secrets "SSKAI_DATABASE_URL" $values.database.existingSecret }}
{{- end }}
{{- if ne .component "migrations" }}
{{- with $values.kafka.existingSecret }}
{{- $_ := set $secrets "SSKAI_KAFKA_USERNAME" . }}
{{- $_ := set $secrets "SSKAI_KAFKA_PASSWORD" . }}
{{- end }}
{{- with $values.kafka.caSecret }}{{ $_ := set $secrets "SSKAI_KAFKA_CA_PEM" . }}{{ end }}
{{- end }}
{{- if not (has .component (list "topics" "migrations")) }}
{{- with $values.objects.existingSecret }}
{{- $_ := set $secrets "SSKAI_OBJECTS_ACCESS_KEY" . }}
{{- $_ := set $secrets "SSKAI_OBJECTS_SECRET_KEY" . }}
{{- end }}
{{- end }}
{{- if has .component (list "gateway" "inference" "monitor" "scheduler") }}
{{- $_ := set $secrets "SSKAI_INTERNAL_TOKEN" $values.secrets.internal }}
{{- end }}
{{- if eq .component "gateway" }}
{{- with $values.secrets.admin }}{{ $_ := set $secrets "SSKAI_ADMIN_KEY" . }}{{ end }}
{{- with $values.secrets.oidc }}{{ $_ := set $secrets "SSKAI_OIDC_CLIENT_SECRET" . }}{{ end }}
{{- end }}
{{- range $name, $secret := $secrets }}
- name: {{ $name }}
  valueFrom: {secretKeyRef: {name: {{ $secret }}, key: {{ $name }}}}
{{- end }}
{{- end }}
