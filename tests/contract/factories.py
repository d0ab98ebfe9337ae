"""The factories of errors, a line each: what section 8.4 says of them. The library's own tests read it, too."""

__all__ = ["ROWS"]

# module; name; specific parameters; optional parameters; value of the code; own message, empty where the caller gives it
TABLE = """
factories; raise_unknown_error; ; ; UNKNOWN_ERROR;
factories; raise_validation_error; field; value; VALIDATION_ERROR;
factories; raise_resource_not_found; resource_type resource_id; ; RESOURCE_NOT_FOUND; <resource_type> with ID '<resource_id>' not found
factories; raise_configuration_error; config_key; ; CONFIGURATION_ERROR;
factories; raise_external_service_error; external_service; status_code; EXTERNAL_SERVICE_ERROR;
factories; raise_kafka_publish_error; topic; ; KAFKA_PUBLISH_ERROR;
factories; raise_content_service_error; ; ; CONTENT_SERVICE_ERROR;
factories; raise_spellcheck_service_error; ; ; SPELLCHECK_SERVICE_ERROR;
factories; raise_nlp_service_error; ; ; NLP_SERVICE_ERROR;
factories; raise_ai_feedback_service_error; ; ; AI_FEEDBACK_SERVICE_ERROR;
factories; raise_cj_assessment_service_error; ; ; CJ_ASSESSMENT_SERVICE_ERROR;
factories; raise_missing_required_field; field_name; ; MISSING_REQUIRED_FIELD; Required field '<field_name>' is missing
factories; raise_invalid_configuration; ; ; INVALID_CONFIGURATION;
factories; raise_timeout_error; timeout_seconds; ; TIMEOUT;
factories; raise_connection_error; target; ; CONNECTION_ERROR;
factories; raise_service_unavailable; unavailable_service; ; SERVICE_UNAVAILABLE;
factories; raise_rate_limit_error; limit window_seconds; ; RATE_LIMIT;
factories; raise_quota_exceeded; quota_type limit; ; QUOTA_EXCEEDED;
factories; raise_authentication_error; ; ; AUTHENTICATION_ERROR;
factories; raise_authorization_error; ; ; AUTHORIZATION_ERROR;
factories; raise_invalid_api_key; ; ; INVALID_API_KEY; Invalid or missing API key
factories; raise_invalid_request; ; ; INVALID_REQUEST;
factories; raise_invalid_response; ; ; INVALID_RESPONSE;
factories; raise_parsing_error; parse_target; ; PARSING_ERROR;
factories; raise_circuit_breaker_open; circuit_name; ; CIRCUIT_BREAKER_OPEN;
factories; raise_request_queued; queue_name; ; REQUEST_QUEUED;
factories; raise_processing_error; ; ; PROCESSING_ERROR;
factories; raise_initialization_failed; component; ; INITIALIZATION_FAILED;
class_management_factories; raise_course_not_found; course_id; ; COURSE_NOT_FOUND; Course with ID '<course_id>' not found
class_management_factories; raise_course_validation_error; ; ; COURSE_VALIDATION_ERROR;
class_management_factories; raise_multiple_course_error; ; ; MULTIPLE_COURSE_ERROR;
class_management_factories; raise_class_not_found; class_id; ; CLASS_NOT_FOUND; Class with ID '<class_id>' not found
class_management_factories; raise_student_not_found; student_id; ; STUDENT_NOT_FOUND; Student with ID '<student_id>' not found
file_validation_factories; raise_empty_content_error; file_name; ; EMPTY_CONTENT; File '<file_name>' has empty content
file_validation_factories; raise_content_too_short; file_name min_length actual_length; ; CONTENT_TOO_SHORT; File '<file_name>' content is too short (minimum: <min_length>, actual: <actual_length>)
file_validation_factories; raise_content_too_long; file_name max_length actual_length; ; CONTENT_TOO_LONG; File '<file_name>' content is too long (maximum: <max_length>, actual: <actual_length>)
file_validation_factories; raise_raw_storage_failed; file_name; ; RAW_STORAGE_FAILED;
file_validation_factories; raise_text_extraction_failed; file_name; ; TEXT_EXTRACTION_FAILED;
file_validation_factories; raise_encrypted_file_error; file_name; ; ENCRYPTED_FILE_UNSUPPORTED; File '<file_name>' is encrypted and cannot be processed.
file_validation_factories; raise_unknown_validation_error; ; ; UNKNOWN_VALIDATION_ERROR;
identity_factories; raise_invalid_credentials_error; email; ; IDENTITY_INVALID_CREDENTIALS; Invalid email or password
identity_factories; raise_user_not_found_error; identifier; ; IDENTITY_USER_NOT_FOUND; User not found: <identifier>
identity_factories; raise_user_already_exists_error; email; ; IDENTITY_USER_ALREADY_EXISTS; User already exists with email: <email>
identity_factories; raise_email_not_verified_error; email; ; IDENTITY_EMAIL_NOT_VERIFIED; Email not verified: <email>
identity_factories; raise_account_locked_error; email; ; IDENTITY_ACCOUNT_LOCKED; Account is locked: <email>
identity_factories; raise_token_expired_error; token_type; ; IDENTITY_TOKEN_EXPIRED; <token_type> token has expired
identity_factories; raise_token_invalid_error; token_type; ; IDENTITY_TOKEN_INVALID; <token_type> token is invalid
identity_factories; raise_refresh_token_invalid_error; ; ; IDENTITY_REFRESH_TOKEN_INVALID; Refresh token is invalid or revoked
identity_factories; raise_refresh_token_expired_error; ; ; IDENTITY_REFRESH_TOKEN_EXPIRED; Refresh token has expired
identity_factories; raise_verification_token_expired_error; ; ; IDENTITY_VERIFICATION_TOKEN_EXPIRED; Email verification token has expired
identity_factories; raise_verification_token_invalid_error; ; ; IDENTITY_VERIFICATION_TOKEN_INVALID; Email verification token is invalid
identity_factories; raise_email_already_verified_error; email; ; IDENTITY_EMAIL_ALREADY_VERIFIED; Email is already verified: <email>
identity_factories; raise_reset_token_expired_error; ; ; IDENTITY_RESET_TOKEN_EXPIRED; Password reset token has expired
identity_factories; raise_reset_token_invalid_error; ; ; IDENTITY_RESET_TOKEN_INVALID; Password reset token is invalid
identity_factories; raise_password_reset_not_requested_error; email; ; IDENTITY_PASSWORD_RESET_NOT_REQUESTED; Password reset was not requested for: <email>
identity_factories; raise_invalid_token_error; ; ; IDENTITY_TOKEN_INVALID;
identity_factories; raise_missing_token_error; ; ; IDENTITY_TOKEN_INVALID;
batch_conductor_factories; raise_pipeline_dependency_resolution_failed; ; batch_id requested_pipeline resolution_stage dependency_error; BCS_PIPELINE_DEPENDENCY_RESOLUTION_FAILED;
batch_conductor_factories; raise_pipeline_dependency_cycle_detected; ; pipeline_name cycle_steps detection_stage; BCS_PIPELINE_DEPENDENCY_CYCLE_DETECTED;
batch_conductor_factories; raise_pipeline_compatibility_failed; ; pipeline_name batch_metadata compatibility_issue; BCS_PIPELINE_COMPATIBILITY_FAILED;
cj_assessment_factories; raise_cj_insufficient_comparisons; ; batch_id comparison_count required_count; CJ_INSUFFICIENT_COMPARISONS;
cj_assessment_factories; raise_cj_score_convergence_failed; ; batch_id iteration_count convergence_error; CJ_SCORE_CONVERGENCE_FAILED;
cj_assessment_factories; raise_cj_comparison_imbalance; ; batch_id imbalance_details min_comparisons max_comparisons; CJ_COMPARISON_IMBALANCE;
cj_assessment_factories; raise_cj_callback_correlation_failed; ; callback_correlation_id batch_id; CJ_CALLBACK_CORRELATION_FAILED;
llm_provider_factories; raise_llm_provider_service_error; ; ; LLM_PROVIDER_SERVICE_ERROR;
llm_provider_factories; raise_llm_provider_error; provider_name; status_code; EXTERNAL_SERVICE_ERROR;
llm_provider_factories; raise_llm_model_not_found; provider_name model_name; ; RESOURCE_NOT_FOUND; Model '<model_name>' not found for provider '<provider_name>'
llm_provider_factories; raise_llm_response_validation_error; provider_name validation_error; ; PARSING_ERROR; LLM response validation failed: <validation_error>
llm_provider_factories; raise_llm_queue_full_error; queue_size; ; REQUEST_QUEUED;
spellchecker_factories; raise_spell_event_correlation_error; ; missing_field; SPELL_EVENT_CORRELATION_ERROR;
"""
ROWS = [[part.strip() for part in line.split(";")] for line in TABLE.strip().splitlines()]
