import type { Role, Scope } from "../../api/documents";

export interface ApiKey {
  id: string;
  name: string;
  prefix: string;
  scopes: Scope[];
  operator: boolean;
  sampled: boolean;
  created_by: string | null;
  created_at: string;
  expires_at: string | null;
  last_used_at: string | null;
  revoked_at: string | null;
  /** Only in the answer that made it. */
  key?: string;
}

export interface Member {
  id: string;
  email: string;
  name: string;
  role: Role;
  state: "invited" | "active";
  created_at: string;
}

export interface Webhook {
  id: string;
  url: string;
  /** None: every event. */
  types: string[];
  enabled: boolean;
  created_at: string;
  disabled_at: string | null;
  previous_secret_until: string | null;
  /** Only in the answer that made it, or made another. */
  secret?: string;
}

export interface Delivery {
  id: string;
  state: "pending" | "delivered" | "failed" | string;
  type: string;
  event_id: string | null;
  tries: number;
  told_at: string;
  delivered_at: string | null;
  next_try_at: string | null;
  last_status: number | null;
  last_problem: string | null;
}

export interface Limit {
  name: string;
  limit: number | null;
  used: number | null;
  unit: string;
}

export interface AuditEntry {
  id: string;
  seq: number;
  at: string;
  actor: { kind: "user" | "key" | "operator"; id: string; name: string };
  action: string;
  target: string;
  status: number;
  before_sha256: string | null;
  after_sha256: string | null;
  previous_sha256: string;
  sha256: string;
}

export interface Tenant {
  id: string;
  name: string;
  role: Role;
  created_at: string;
}
