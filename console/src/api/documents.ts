/** Documents of the gateway that more than one page reads. A page keeps its own in `pages/NAME/documents.ts`. */

export interface Listing<T> {
  object: "list";
  data: T[];
  has_more: boolean;
  /** Sent as `after` it gives the next page. */
  next: string | null;
}

export interface Auth {
  object: "auth";
  oidc: { name: string; start: string } | null;
  key: boolean;
  sign_up: "open" | "invited";
}

export type Role = "viewer" | "developer" | "admin";
export type Scope = "read" | "infer" | "write" | "admin";

export interface Session {
  object: "session";
  id: string;
  user: { id: string; email: string; name: string } | null;
  tenant: { id: string; name: string } | null;
  role: Role;
  scopes: Scope[];
  operator: boolean;
  csrf_token: string | null;
  tenants: { id: string; name: string; role: Role }[];
  created_at: string;
  expires_at: string | null;
}
