{{- /* What pods have in common. A component is one of api, worker, maintenance, beat, migrate: a role of docker/scripts/entrypoint.sh. */}}

{{- define "secateur.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-secateur{{ end }}
{{- end }}

{{- define "secateur.selector" -}}
app.kubernetes.io/name: secateur
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "secateur.labels" -}}
{{ include "secateur.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "secateur.tag" -}}
{{- .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- /* Of every pod. */}}
{{- define "secateur.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
# What `init: true` is in Compose: the first process of the pod reaps what others leave, and ours is not it, so that its health check can end it.
shareProcessNamespace: true
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "secateur.container" -}}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{- /* (dict "root" $ "own" settings "given" settings): what every process is told, and what this one is. Passwords are files.
Given are a user's, and change nothing of the chart's own. */}}
{{- define "secateur.env" -}}
{{- $every := dict
  "DATABASE_URL" (required "database.url: where PostgreSQL is" .root.Values.database.url)
  "DATABASE_PASSWORD_FILE" "/run/secrets/secateur/database_password"
  "BROKER_URL" (required "broker.url: where Valkey is" .root.Values.broker.url)
  "BROKER_PASSWORD_FILE" "/run/secrets/secateur/broker_password"
  "ARTIFACTS_URL" (required "artifacts.url: the bucket" .root.Values.artifacts.url)
  "AUTH" "keys"
  "RATE_STORAGE" "broker" }}
{{- range $name, $value := merge $every (.own | default dict) (.given | default dict) .root.Values.settings }}
- name: SECATEUR_{{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- with .root }}
{{- with .Values.artifacts.region }}
- name: AWS_REGION
  value: {{ . | quote }}
{{- end }}
{{- with .Values.artifacts.endpoint }}
- name: AWS_ENDPOINT
  value: {{ . | quote }}
{{- if hasPrefix "http://" . }}
- name: AWS_ALLOW_HTTP
  value: "true"
{{- end }}
{{- end }}
{{- with .Values.artifacts.secret }}
{{- $secret := . }}
{{- range list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" }}
- name: {{ . }}
  valueFrom: {secretKeyRef: {name: {{ $secret }}, key: {{ . }}}}
{{- end }}
{{- end }}
{{- with .Values.tracing.endpoint }}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ . | quote }}
{{- end }}
{{- end }}
{{- end }}

{{- /* The passwords, and what every process writes to beside its data. */}}
{{- define "secateur.mounts" -}}
- {name: passwords, mountPath: /run/secrets/secateur, readOnly: true}
- {name: tmp, mountPath: /tmp}
- {name: data, mountPath: /var/lib/secateur}
{{- end }}

{{- define "secateur.volumes" -}}
- name: passwords
  projected:
    # For the group: pods run as another user than who writes it.
    defaultMode: 0440
    sources:
      - secret: {name: {{ .Values.database.secret.name }}, items: [{key: {{ .Values.database.secret.key }}, path: database_password}]}
      - secret: {name: {{ .Values.broker.secret.name }}, items: [{key: {{ .Values.broker.secret.key }}, path: broker_password}]}
- {name: tmp, emptyDir: {sizeLimit: 1Gi}}
{{- end }}

{{- /* Of a process without a port: ready while it turns and has its database and broker. One that stands still ends by this check. */}}
{{- define "secateur.health" -}}
startupProbe:
  exec: {command: [healthcheck.sh, {{ . }}]}
  periodSeconds: 10
  timeoutSeconds: 20
  failureThreshold: 30
readinessProbe:
  exec: {command: [healthcheck.sh, {{ . }}]}
  periodSeconds: 30
  timeoutSeconds: 20
  failureThreshold: 4
{{- end }}

{{- /* Of a URL; where it names none, its scheme's. */}}
{{- define "secateur.port" -}}
{{- $url := urlParse . }}
{{- $named := regexFind ":[0-9]+$" $url.host }}
{{- if $named }}{{ trimPrefix ":" $named }}
{{- else }}{{ get (dict "postgresql+psycopg" 5432 "redis" 6379 "rediss" 6379 "http" 80 "https" 443) $url.scheme }}
{{- end }}
{{- end }}
