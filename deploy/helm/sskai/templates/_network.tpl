{{/* A peer of the release's own namespace; takes root and component. */}}
{{- define "sskai.peer" -}}
namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: {{ .root.Release.Namespace }}}}
podSelector:
  matchLabels: {{- include "sskai.selector" . | nindent 4 }}
{{- end }}

{{/* Pods of one program in the jobs' namespace; takes root and program. */}}
{{- define "sskai.jobPeer" -}}
namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: {{ .root.Values.jobs.namespace }}}}
podSelector: {matchLabels: {app.kubernetes.io/name: sskai-{{ .program }}}}
{{- end }}

{{/* One egress rule to a part around: takes root and part. */}}
{{- define "sskai.toPart" -}}
{{- $part := index .root.Values.networkPolicy .part -}}
- to: {{- toYaml $part.to | nindent 4 }}
  ports:
    {{- range $part.ports }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
{{- end }}

{{- define "sskai.toDns" -}}
- to: {{- toYaml .Values.networkPolicy.dns | nindent 4 }}
  ports: [{protocol: UDP, port: 53}, {protocol: TCP, port: 53}]
{{- end }}

{{/* HTTPS to everybody but private networks and the machine's metadata. */}}
{{- define "sskai.toInternet" -}}
- to:
    - ipBlock:
        cidr: 0.0.0.0/0
        except: [0.0.0.0/8, 10.0.0.0/8, 100.64.0.0/10, 127.0.0.0/8, 169.254.0.0/16, 172.16.0.0/12, 192.168.0.0/16, 224.0.0.0/4, 240.0.0.0/4]
  ports: [{protocol: TCP, port: 443}]
{{- end }}

{{- define "sskai.toAws" -}}
- to: {{- toYaml .Values.networkPolicy.aws.to | nindent 4 }}
  ports: [{protocol: TCP, port: 443}]
{{- end }}
