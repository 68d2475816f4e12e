{{/* Names, labels and images used by all templates. Must not hold defaults: those are in values.yaml. */}}

{{- define "repave.name" -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "repave.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "repave.name" .) -}}
{{- end -}}

{{- define "repave.selector" -}}
app.kubernetes.io/name: repave
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "repave.labels" -}}
{{ include "repave.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "repave.image" -}}
{{- if not (and .Values.image.repository .Values.image.digest) -}}
{{- fail "image.repository and image.digest are required: set them to the operator image and its digest (sha256:...), a tag can be moved to another image" -}}
{{- end -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- end -}}

{{/* An image that must be given by digest: dict "value" .Values.toolsImage "name" "toolsImage" */}}
{{- define "repave.pinned" -}}
{{- if not .value -}}
{{- fail (printf "%s is required: set it to REPOSITORY@sha256:<64 hex digits>" .name) -}}
{{- end -}}
{{ .value }}
{{- end -}}
