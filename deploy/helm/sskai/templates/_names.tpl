{{/* The release's name in front of everything, once. */}}
{{- define "sskai.fullname" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "sskai.services" -}}gateway optimizer scheduler trainer inference monitor{{- end }}

{{/* Takes a dict of root and component. */}}
{{- define "sskai.selector" -}}
app.kubernetes.io/name: sskai
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "sskai.labels" -}}
{{ include "sskai.selector" . }}
app.kubernetes.io/part-of: sskai
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{/* The name and namespace of a service, as pods of any namespace reach it. Takes root and component. */}}
{{- define "sskai.url" -}}
http://{{ include "sskai.fullname" .root }}-{{ .component }}.{{ .root.Release.Namespace }}.svc:8000
{{- end }}

{{/* Takes root, stage (of deploy/Dockerfile) and image (repository, tag, digest; what is missing is the chart's). */}}
{{- define "sskai.image" -}}
{{- $stage := dict "repository" (printf "%s/%s" .root.Values.image.repository .stage) -}}
{{- $image := mergeOverwrite (deepCopy .root.Values.image) $stage (.image | default dict) -}}
{{- $image.repository }}:{{ $image.tag }}{{ with $image.digest }}@{{ . }}{{ end }}
{{- end }}

{{- define "sskai.nodesRole" -}}{{ .Release.Namespace }}-{{ include "sskai.fullname" . }}-nodes{{- end }}
