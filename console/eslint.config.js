import js from "@eslint/js";
import jsxA11y from "eslint-plugin-jsx-a11y";
import reactHooks from "eslint-plugin-react-hooks";
import globals from "globals";
import tseslint from "typescript-eslint";

export default tseslint.config(
  { ignores: ["dist", "node_modules", "src/api/schema.d.ts"] },
  js.configs.recommended,
  ...tseslint.configs.strict,
  jsxA11y.flatConfigs.strict,
  reactHooks.configs.flat["recommended-latest"],
  {
    languageOptions: { globals: globals.browser },
    rules: {
      "no-restricted-globals": ["error", { name: "setInterval", message: "Nothing polls: events say what changed." }],
      "no-console": "error",
      eqeqeq: "error",
      // Lists that are keyboard targets keep their role in Safari only so.
      "jsx-a11y/no-redundant-roles": ["error", { ul: ["list"] }],
    },
  },
  { files: ["*.mjs", "*.js"], languageOptions: { globals: globals.node } },
);
