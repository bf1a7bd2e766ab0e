{{/* What every container of ours may do: nothing but compute. */}}
{{- define "sskai.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "sskai.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* Volumes of a pod and where they lie. Takes root, component and size. */}}
{{- define "sskai.volumes" -}}
- name: scratch
  emptyDir: {sizeLimit: {{ .size }}}
{{- with .root.Values.database.caConfigMap }}
- name: database-ca
  configMap: {name: {{ . }}, items: [{key: ca.pem, path: ca.pem}]}
{{- end }}
{{- if and .root.Values.models.existingClaim (has .component (list "gateway" "inference")) }}
- name: models
  persistentVolumeClaim: {claimName: {{ .root.Values.models.existingClaim }}, readOnly: true}
{{- end }}
{{- end }}

{{- define "sskai.mounts" -}}
- {name: scratch, mountPath: /tmp, subPath: tmp}
- {name: scratch, mountPath: /var/cache/sskai, subPath: cache}
{{- if .root.Values.database.caConfigMap }}
- {name: database-ca, mountPath: /etc/sskai/database, readOnly: true}
{{- end }}
{{- if and .root.Values.models.existingClaim (has .component (list "gateway" "inference")) }}
- {name: models, mountPath: /var/cache/sskai/models, readOnly: true}
{{- end }}
{{- end }}

{{/* Where a pod may run. Takes root and own (the service's values). */}}
{{- define "sskai.placing" -}}
{{- with .own.nodeSelector | default .root.Values.pods.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .own.tolerations | default .root.Values.pods.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.pods.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
