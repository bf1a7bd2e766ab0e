/// <reference types="vitest/config" />
import react from "@vitejs/plugin-react";
import { defineConfig, loadEnv } from "vite";

const API_PATHS = ["/v1", "/v2", "/openapi.json", "/asyncapi.yaml", "/docs"];

export default defineConfig(({ mode }) => {
  const gateway = loadEnv(mode, ".", "SSKAI_")["SSKAI_GATEWAY_URL"] ?? "http://127.0.0.1:8000";
  // The gateway refuses changes that another origin asks for; in development the page's origin is Vite's.
  const proxy = { target: gateway, changeOrigin: true, headers: { origin: gateway } };
  return {
    plugins: [react()],
    build: { target: "es2022", assetsInlineLimit: 0, chunkSizeWarningLimit: 800 },
    server: { proxy: Object.fromEntries(API_PATHS.map((path) => [path, proxy])) },
    test: { environment: "node", include: ["tests/**/*.test.ts"] },
  };
});
